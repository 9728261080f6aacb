"""The files of wake-word models, for the devices of a rollout."""

from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Request, Response

from bridge.service import Bridge

router = APIRouter()

Sha256 = Annotated[str, Path(pattern="^[0-9a-f]{64}$")]


@router.get("/api/models/{sha256}", include_in_schema=False)
async def model_file(request: Request, sha256: Sha256) -> Response:
    """A wake-word model, or the sound that it must recognise, by its SHA-256; for devices of a rollout."""
    bridge: Bridge = request.app.state.bridge
    found = None if bridge.rollout_store is None else await bridge.rollout_store.blob(sha256)
    if found is None:
        raise HTTPException(404, "there is no such file")
    return Response(found, media_type="application/octet-stream")
