"""The FastAPI application: routes, limits and errors that are always JSON, around one Bridge."""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bridge.service import VERSION, Bridge
from bridge.shim import router
from bridge.sockets import app_socket
from contract.telemetry import REGISTRY, get_logger

SOCKET_PATH = "/ws/app/{connection_uuid}"

log = get_logger("http")


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
    app.add_exception_handler(RequestValidationError, _unprocessable)
    app.add_exception_handler(Exception, _failed)
    app.add_middleware(BodyLimit, max_bytes=bridge.settings.bridge.max_body_bytes)
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
    return JSONResponse({"status": "ready"})


async def metrics() -> Response:
    """Prometheus text format."""
    return PlainTextResponse(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)


async def _unprocessable(_request: Request, error: Exception) -> Response:
    """What was wrong, without repeating the input: it may be a secret, or not even be encodable."""
    faults: list[Any] = list(error.errors()) if isinstance(error, RequestValidationError) else []
    detail = [{"type": fault["type"], "loc": fault["loc"], "msg": fault["msg"]} for fault in faults]
    return JSONResponse({"detail": detail}, 422)


async def _failed(_request: Request, error: Exception) -> Response:
    log.error("request_failed", error=repr(error))
    return JSONResponse({"detail": "something went wrong here; the server's log says more"}, 500)


class BodyLimit:
    """Refuses a body over `max_bytes` with 413, by its announced length or as soon as it grows too long."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = await self._read(scope, receive)
        if body is None:
            response = JSONResponse({"detail": f"the body is larger than {self._max_bytes} bytes"}, 413)
            response.headers["connection"] = "close"
            await response(scope, receive, send)
            return
        await self._app(scope, _replay(body, receive), send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > self._max_bytes:
            return None
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return bytes(body)
            body += message.get("body", b"")
            if len(body) > self._max_bytes:
                return None
            if not message.get("more_body", False):
                return bytes(body)


def _replay(body: bytes, receive: Receive) -> Callable[[], Awaitable[Message]]:
    """Give the body once, then whatever the server says."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
