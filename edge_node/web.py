"""The device's own HTTP endpoint: the documented log-out that a server may call, and its counterpart."""

from collections.abc import Callable, Collection, Iterable
from ipaddress import IPv4Network, IPv6Network
from typing import Protocol

from fastapi import FastAPI, HTTPException
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, StrictBool

from contract.guards import AllowedNetworks, OriginGuard, Origins
from contract.http_methods import Resources
from contract.web import Result, UserRequest, example, harden, problems

MAX_BODY_BYTES = 16 * 1024
NAME_IT = "if this node is called by that host's name, put it into edge.http_hosts"
LET_IT_IN = "if it may call, put its address into edge.http_allow"


class Node(Protocol):
    """What the endpoint may ask of the node."""

    def local_logout(self, uid: str) -> bool:
        """Log out; False when another user is logged in. Raises OSError when it could not be stored."""
        ...

    def local_login(self, uid: str) -> None:
        """Wish for a session; the bridge decides, if there is one. Raises OSError when it could not be stored."""
        ...


class MuteRequest(BaseModel):
    """What to do."""

    model_config = example({"muted": True})

    muted: StrictBool


PROBLEMS = problems(
    {
        403: "Not from this address, or a web page of another origin",
        409: "Another user is logged in; nothing changed",
        503: "The state could not be stored",
    }
)


def create_app(
    node: Node,
    set_mute: Callable[[bool], bool],
    metrics: Callable[[], bytes],
    *,
    allow: Iterable[IPv4Network | IPv6Network],
    hosts: Collection[str],
) -> FastAPI:
    """The application that answers for this node, to callers from the networks `allow`, by its address or `hosts`.

    `set_mute` is told to mute or not, and says whether the node is muted then; OSError if that could not be stored.
    `metrics` gives what a scrape of Prometheus's gets.
    """
    app = FastAPI(title="SARVIS edge", docs_url=None, redoc_url=None, strict_content_type=False, redirect_slashes=False)

    @app.post("/api/auth/logout", responses=PROBLEMS)
    async def logout(body: UserRequest) -> Result:
        """Switch off the light, delete the session, go to standby."""
        try:
            done = node.local_logout(body.uid)
        except OSError:
            raise HTTPException(503, "the log-out could not be stored on this device; try again") from None
        if not done:
            raise HTTPException(409, "another user is logged in here")
        return Result(success=True, message="Logged out successfully")

    @app.post("/api/auth/login", responses=PROBLEMS)
    async def login(body: UserRequest) -> Result:
        """Ask the bridge for a session; a device that speaks only HTTP logs in by itself."""
        try:
            node.local_login(body.uid)
        except OSError:
            raise HTTPException(503, "the log-in could not be stored on this device; try again") from None
        return Result(success=True, message="Login requested")

    @app.post("/api/mute", responses=PROBLEMS)
    async def mute(body: MuteRequest) -> Result:
        """Listen no more, or again; a switch on the device itself is not overruled."""
        try:
            muted = set_mute(body.muted)
        except OSError:
            raise HTTPException(503, "this could not be stored on this device; try again") from None
        return Result(success=muted == body.muted, message="Muted" if muted else "Listening")

    @app.get("/metrics", include_in_schema=False)
    def numbers() -> PlainTextResponse:
        """What the node has counted."""
        return PlainTextResponse(metrics(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/livez", include_in_schema=False)
    async def livez() -> dict[str, str]:
        """The process runs."""
        return {"status": "alive"}

    harden(app, max_body_bytes=MAX_BODY_BYTES)
    # No page of this node exists, and it asks for no credential: a browser must not be anybody's messenger here.
    app.add_middleware(OriginGuard, origins=Origins((), hosts), advice=NAME_IT)
    app.add_middleware(AllowedNetworks, networks=allow, advice=LET_IT_IN)
    app.add_middleware(Resources)
    return app
