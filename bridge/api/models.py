"""The files of wake-word models, for the devices of a rollout."""

from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Request, Response

from bridge.api.legacy import DENIED
from bridge.service import Bridge
from infra.web.server import problems

router = APIRouter()

Sha256 = Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="of the file, in hex", examples=["0" * 64])]
UNREADABLE = {503: "The ledger could not be read"}
NONE_SUCH = {404: "There is no such file"}


@router.get(
    "/api/models/{sha256}",
    responses=problems(DENIED | UNREADABLE | NONE_SUCH) | {200: {"content": {"application/octet-stream": {}}}},
    response_class=Response,
)
async def model_file(request: Request, sha256: Sha256) -> Response:
    """A wake-word model, or the sound that it must recognise, by its SHA-256; for devices of a rollout."""
    bridge: Bridge = request.app.state.bridge
    found = None if bridge.rollout_store is None else await bridge.rollout_store.blob(sha256)
    if found is None:
        raise HTTPException(404, "there is no such file")
    return Response(found, media_type="application/octet-stream")
