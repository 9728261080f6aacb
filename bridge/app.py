"""The FastAPI application: routes, limits and errors that are always JSON, around one Bridge."""

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from fastapi_swagger import patch_fastapi
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from bridge.auth.doorkeeper import Doorkeeper
from bridge.page import PATH, page
from bridge.push_endpoints import router as push_router
from bridge.service import VERSION, Bridge
from bridge.shim import router
from bridge.store import StoreError
from bridge.websocket.plain import app_socket
from contract.guards import NamedPages, OriginGuard, Origins
from contract.http_methods import Resources
from contract.telemetry import REGISTRY
from contract.web import harden

ADVICE = (
    "name the origin in auth.origins if its pages may call, the host in bridge.hosts if an open bridge has that name; "
    "behind a proxy see docs/operations.md, Behind a proxy"
)
SOCKET_PATH = "/ws/app/{connection_uuid}"


def create_app(bridge: Bridge) -> FastAPI:
    """The application that serves this bridge; the bridge's tasks are the caller's (`bridge.running()`)."""
    app = FastAPI(
        title="SARVIS bridge",
        version=VERSION,
        # FastAPI's own pages fetch their scripts from elsewhere: useless on a machine without internet.
        docs_url=None,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        # The documented callers need not name the type of their body.
        strict_content_type=False,
        redirect_slashes=False,
    )
    app.state.bridge = bridge
    app.include_router(router)
    app.include_router(push_router)
    app.add_api_websocket_route(SOCKET_PATH, app_socket)
    app.add_api_websocket_route(SOCKET_PATH + "/", app_socket)
    app.add_api_route(PATH, to_page, include_in_schema=False)
    app.mount(PATH, page(bridge.settings.bridge.app_dir))
    app.add_api_route("/livez", livez, include_in_schema=False)
    app.add_api_route("/readyz", readyz, include_in_schema=False)
    app.add_api_route("/metrics", metrics, include_in_schema=False)
    app.add_exception_handler(StoreError, not_stored)
    patch_fastapi(app, docs_url="/docs", redirect_from_root_to_docs=False)
    harden(app, max_body_bytes=bridge.settings.bridge.max_body_bytes)
    app.add_middleware(Doorkeeper, doors=bridge.doors)
    origins = origins_of(bridge)
    app.add_middleware(OriginGuard, origins=origins, advice=ADVICE)
    if bridge.settings.auth.origins:
        app.add_middleware(NamedPages, origins=origins, advice=ADVICE)
    app.add_middleware(Resources, files=f"{PATH}/")
    return app


def origins_of(bridge: Bridge) -> Origins:
    """The pages that may call the bridge.

    Where no credential is asked for, the name by which it is called must be ours: a foreign page can have another for
    our address.
    """
    hosts = None if bridge.doors.required else {bridge.settings.bridge.host, *bridge.settings.bridge.hosts}
    return Origins(bridge.settings.auth.origins, hosts, files=PATH)


async def to_page(request: Request) -> Response:
    """The page's folder: what the page loads is named from there, whatever a proxy puts before the path."""
    query = request.url.query
    return RedirectResponse(f"{PATH.strip('/')}/?{query}" if query else f"{PATH.strip('/')}/")


async def livez() -> dict[str, str]:
    """The process runs."""
    return {"status": "alive"}


async def readyz(request: Request) -> Response:
    """200 while wakes can come and go, else 503; with the reason, for whoever has a credential."""
    bridge: Bridge = request.app.state.bridge
    reason = bridge.problem
    if reason is None:
        return JSONResponse({"status": "ready"})
    told = {} if request.state.principal is None else {"reason": reason}
    return JSONResponse({"status": "not ready", **told}, 503)


async def not_stored(_request: Request, error: Exception) -> Response:
    """Nothing of the request was carried out."""
    return JSONResponse({"detail": f"{error}; nothing was changed, try again"}, 503)


async def metrics() -> Response:
    """Prometheus text format."""
    return PlainTextResponse(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)
