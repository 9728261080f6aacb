"""The FastAPI application: routes, limits and errors that are always JSON, around one Bridge."""

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from bridge.service import VERSION, Bridge
from bridge.shim import router
from bridge.sockets import app_socket
from bridge.store import StoreError
from contract.telemetry import REGISTRY
from contract.web import harden

SOCKET_PATH = "/ws/app/{connection_uuid}"


def create_app(bridge: Bridge) -> FastAPI:
    """The application that serves this bridge; the bridge's tasks are the caller's (`bridge.running()`)."""
    app = FastAPI(
        title="SARVIS bridge",
        version=VERSION,
        # The interactive pages fetch their scripts from elsewhere: useless on a machine without internet.
        docs_url=None,
        redoc_url=None,
        # The documented callers need not name the type of their body.
        strict_content_type=False,
    )
    app.state.bridge = bridge
    app.include_router(router)
    app.add_api_websocket_route(SOCKET_PATH, app_socket)
    app.add_api_websocket_route(SOCKET_PATH + "/", app_socket)
    app.add_api_route("/livez", livez, include_in_schema=False)
    app.add_api_route("/readyz", readyz, include_in_schema=False)
    app.add_api_route("/metrics", metrics, include_in_schema=False)
    app.add_exception_handler(StoreError, not_stored)
    harden(app, max_body_bytes=bridge.settings.bridge.max_body_bytes)
    return app


async def livez() -> dict[str, str]:
    """The process runs."""
    return {"status": "alive"}


async def readyz(request: Request) -> Response:
    """200 while wakes can come and go, else 503 with the reason."""
    bridge: Bridge = request.app.state.bridge
    if bridge.draining:
        return JSONResponse({"status": "not ready", "reason": "draining"}, 503)
    if not bridge.mqtt.connected:
        return JSONResponse({"status": "not ready", "reason": f"mqtt: {bridge.mqtt.problem}"}, 503)
    if bridge.store.problem is not None:
        return JSONResponse({"status": "not ready", "reason": f"ledger: {bridge.store.problem}"}, 503)
    return JSONResponse({"status": "ready"})


async def not_stored(_request: Request, error: Exception) -> Response:
    """Nothing of the request was carried out."""
    return JSONResponse({"detail": f"{error}; nothing was changed, try again"}, 503)


async def metrics() -> Response:
    """Prometheus text format."""
    return PlainTextResponse(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)
