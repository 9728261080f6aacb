"""The device's own HTTP endpoint: the documented log-out, mute, metrics."""

from collections.abc import Callable, Collection, Iterable
from ipaddress import IPv4Network, IPv6Network

from fastapi import FastAPI, HTTPException
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, StrictBool

from edge_node.local_api.node import Node
from infra.redaction import redact
from infra.web.api import Result, UserRequest, example, harden, problems
from infra.web.methods import Resources
from infra.web.middleware import AllowedNetworks, OriginGuard, Origins

MAX_BODY_BYTES = 16 * 1024
NAME_IT = "if clients call this node by that host's name, add it to edge.http_hosts"
LET_IT_IN = "if it may call, add its address to edge.http_allow"


class MuteRequest(BaseModel):
    """Whether to mute."""

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

    `set_mute` receives whether to mute and returns whether the node is muted then; OSError if that could not be stored.
    `metrics` returns the text for Prometheus.
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
        """Request a session from the bridge; a device that speaks only HTTP logs in by itself."""
        try:
            node.local_login(body.uid)
        except OSError:
            raise HTTPException(503, "the log-in could not be stored on this device; try again") from None
        return Result(success=True, message="Login requested")

    @app.post("/api/mute", responses=PROBLEMS)
    async def mute(body: MuteRequest) -> Result:
        """Mute or unmute; a switch on the device itself is not overruled."""
        try:
            muted = set_mute(body.muted)
        except OSError:
            raise HTTPException(503, "this could not be stored on this device; try again") from None
        return Result(success=muted == body.muted, message="Muted" if muted else "Listening")

    _add_watched(app, node, metrics)
    harden(app, max_body_bytes=MAX_BODY_BYTES)
    # This node has no page and requires no credential: a page of another site must not call it through a browser.
    app.add_middleware(OriginGuard, origins=Origins((), hosts), advice=NAME_IT)
    app.add_middleware(AllowedNetworks, networks=allow, advice=LET_IT_IN)
    app.add_middleware(Resources)
    return app


def _add_watched(app: FastAPI, node: Node, metrics: Callable[[], bytes]) -> None:
    """Endpoints for monitoring."""

    @app.get("/metrics", include_in_schema=False)
    def numbers() -> PlainTextResponse:
        """The counters of the node."""
        return PlainTextResponse(metrics(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/readyz", include_in_schema=False)
    async def readyz() -> JSONResponse:
        """Which device this is; 200 while its wakes can be sent, else 503 with the reason."""
        if node.problem is None:
            return JSONResponse({"status": "ready", "device_id": node.device_id})
        return JSONResponse({"status": "not ready", "device_id": node.device_id, "reason": redact(node.problem)}, 503)

    @app.get("/livez", include_in_schema=False)
    async def livez() -> dict[str, str]:
        """The process runs."""
        return {"status": "alive"}
