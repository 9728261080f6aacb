"""The FastAPI application around one Bridge: routes, limits, JSON errors."""

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from fastapi_swagger import patch_fastapi
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from bridge.api.description import describe, operation_id
from bridge.api.legacy import router
from bridge.api.models import router as models_router
from bridge.api.ops import router as ops_router
from bridge.api.push import router as push_router
from bridge.api.users import router as users_router
from bridge.api.web_app import PATH, page
from bridge.auth.middleware import AuthMiddleware
from bridge.console.actions import router as console_actions
from bridge.console.feed import Viewers
from bridge.console.feed import router as console_feed
from bridge.console.guard import ConsoleGuard
from bridge.console.logins import Logins
from bridge.console.pages import router as console_pages
from bridge.console.rollout_pages import router as console_rollouts
from bridge.service import VERSION, Bridge
from bridge.storage.store import StoreError
from bridge.websocket.asgi.endpoint import app_socket
from infra.telemetry import REGISTRY
from infra.web.api import harden
from infra.web.methods import Resources
from infra.web.middleware import NamedPages, OriginGuard, Origins

ADVICE = (
    "name the origin in auth.origins if its pages may call, the host in bridge.hosts if an open bridge has that name; "
    "behind a proxy see docs/operations.md, Behind a proxy"
)
SOCKET_PATH = "/ws/app/{connection_uuid}"


def create_app(bridge: Bridge) -> FastAPI:
    """The application that serves this bridge; the caller runs the bridge's tasks (`bridge.running()`)."""
    app = FastAPI(
        title="SARVIS bridge",
        version=VERSION,
        # FastAPI's own pages load their scripts from the internet: useless on a machine without it.
        docs_url=None,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        # The documented callers may omit the content type of their body.
        strict_content_type=False,
        redirect_slashes=False,
        generate_unique_id_function=operation_id,
    )
    app.state.bridge = bridge
    app.include_router(router)
    app.include_router(push_router)
    app.include_router(users_router)
    app.include_router(ops_router)
    app.include_router(models_router)
    app.add_api_websocket_route(SOCKET_PATH, app_socket)
    app.add_api_websocket_route(SOCKET_PATH + "/", app_socket)
    app.add_api_route(PATH, to_page, include_in_schema=False)
    app.add_api_route(f"{PATH}/server.json", log_in_asked, methods=["GET", "HEAD"], include_in_schema=False)
    app.mount(PATH, page(bridge.settings.bridge.app_dir))
    app.add_api_route("/livez", livez, include_in_schema=False)
    app.add_api_route("/readyz", readyz, include_in_schema=False)
    app.add_api_route("/metrics", metrics, include_in_schema=False)
    app.add_api_route("/asyncapi.json", messages, include_in_schema=False)
    app.state.console_logins = logins = Logins()
    app.include_router(console_pages)
    app.include_router(console_actions)
    app.include_router(console_rollouts)
    app.state.console_viewers = Viewers(bridge)
    app.include_router(console_feed)
    app.add_exception_handler(StoreError, not_stored)
    describe(app, required=bridge.authenticator.required)
    patch_fastapi(app, docs_url="/docs", redirect_from_root_to_docs=False)
    app.add_middleware(ConsoleGuard, bridge=bridge, logins=logins)
    harden(app, max_body_bytes=bridge.settings.bridge.max_body_bytes)
    app.add_middleware(AuthMiddleware, authenticator=bridge.authenticator)
    origins = origins_of(bridge)
    app.add_middleware(OriginGuard, origins=origins, advice=ADVICE)
    if bridge.settings.auth.origins:
        app.add_middleware(NamedPages, origins=origins, advice=ADVICE)
    app.add_middleware(Resources, files=f"{PATH}/")
    return app


def origins_of(bridge: Bridge) -> Origins:
    """The pages that may call the bridge.

    Without credentials the bridge must be called by one of its own names: a foreign page can point another name to its
    address.
    """
    hosts = None if bridge.authenticator.required else {bridge.settings.bridge.host, *bridge.settings.bridge.hosts}
    return Origins(bridge.settings.auth.origins, hosts, files=PATH)


async def to_page(request: Request) -> Response:
    """Redirect to the page's folder: the page loads its files relative to it, whatever a proxy puts before the path."""
    query = request.url.query
    return RedirectResponse(f"{PATH.strip('/')}/?{query}" if query else f"{PATH.strip('/')}/")


async def log_in_asked(request: Request) -> Response:
    """Tell a page what its user must type: a token, or a name where the bridge requires no credentials."""
    bridge: Bridge = request.app.state.bridge
    asked = "token" if bridge.authenticator.required else "name"
    return JSONResponse({"app": "sarvis", "log_in": asked}, headers={"cache-control": "no-store"})


async def livez() -> dict[str, str]:
    """The process runs."""
    return {"status": "alive"}


async def readyz(request: Request) -> Response:
    """200 while wakes can be delivered, else 503; callers with a credential also get the reason."""
    bridge: Bridge = request.app.state.bridge
    reason = bridge.problem
    if reason is None:
        return JSONResponse({"status": "ready"})
    told = {} if request.state.principal is None else {"reason": reason}
    return JSONResponse({"status": "not ready", **told}, 503)


async def not_stored(_request: Request, error: Exception) -> Response:
    """Answer that the request changed nothing."""
    return JSONResponse({"detail": f"{error}; nothing was changed, try again"}, 503)


def messages(request: Request) -> Response:
    """The messages over MQTT and WebSocket, as AsyncAPI."""
    from bridge.api.asyncapi import asyncapi  # noqa: PLC0415 - most bridges are never asked, and its models take long

    bridge: Bridge = request.app.state.bridge
    return JSONResponse(asyncapi(bridge.settings.mqtt.prefix, required=bridge.authenticator.required))


async def metrics() -> Response:
    """Prometheus text format."""
    return PlainTextResponse(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)
