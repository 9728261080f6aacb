"""What every HTTP server of ours shares: its address, its limits, errors that are always JSON, and our own signals."""

import asyncio
import contextlib
import errno
import functools
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contract.errors import StartError
from contract.messages import Uid
from contract.telemetry import get_logger

BACKLOG = 2048
HANDSHAKE_WITHIN_S = 10.0
QUIET_S = 60.0
BAD_REQUEST = 400

log = get_logger("http")


def example(body: dict[str, Any]) -> ConfigDict:
    """The configuration of a body's model: what a good one looks like, told in the description and in refusals."""
    return ConfigDict(json_schema_extra={"examples": [body]})


class UserRequest(BaseModel):
    """The documented body that names a user; more keys, like `action`, are ignored."""

    model_config = example({"uid": "alice"})

    uid: Uid


class Result(BaseModel):
    """The documented answer."""

    success: bool
    message: str


class Problem(BaseModel):
    """Why a request was not carried out."""

    detail: str


def problems(more: dict[int, str] | None = None) -> dict[int | str, dict[str, Any]]:
    """The refusals of an endpoint for its description; 422 is FastAPI's own."""
    told = {400: "The body is no text in UTF-8", 413: "The body is too large", **(more or {})}
    return {status: {"model": Problem, "description": why} for status, why in told.items()}


def listen(who: str, host: str, port: int, *, option: str) -> socket.socket:
    """A listening TCP socket, the caller closes it; raises StartError that names the port and the option to use."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only where the protocol is named: else answers wait 40 ms for a delayed acknowledgement.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        # From here on whoever was told the address can connect, and nobody else can take it.
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise StartError(
            f"{who} cannot listen on {host} port {port}: {error.strerror or error}; "
            f"stop what uses it or choose another with {option}"
        ) from None
    sock.setblocking(False)
    return sock


def address(sock: socket.socket) -> str:
    """`host:port` of a bound socket."""
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Server(uvicorn.Server):
    """uvicorn, but the process's signals stay ours; with `tls` it speaks HTTPS and WSS."""

    def __init__(self, config: uvicorn.Config, *, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(config)
        self._tls = tls
        logging.getLogger("uvicorn.error").addFilter(_one_line)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start with the context as it is: uvicorn itself would only make one from files, once."""
        if self._tls is not None:
            self.config.ssl = self._tls
        with _impatient(asyncio.get_running_loop(), tls=self._tls is not None):
            await super().startup(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


@contextlib.contextmanager
def _impatient(loop: asyncio.AbstractEventLoop, *, tls: bool) -> Iterator[None]:
    """Servers made inside wait 10 s for a TLS handshake, not 60; and no open files left is told once a minute.

    asyncio tells that once for each place in the backlog, thousands of times a second.
    """
    create = loop.create_server
    if tls:
        loop.create_server = functools.partial(create, ssl_handshake_timeout=HANDSHAKE_WITHIN_S)  # type: ignore[method-assign]
    loop.set_exception_handler(_Complaints())
    try:
        yield
    finally:
        loop.create_server = create  # type: ignore[method-assign]


class _Complaints:
    """An event loop's exception handler."""

    def __init__(self) -> None:
        self._quiet_until = float("-inf")

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, OSError) or error.errno not in {errno.EMFILE, errno.ENFILE}:
            loop.default_exception_handler(context)
        elif loop.time() >= self._quiet_until:
            self._quiet_until = loop.time() + QUIET_S
            log.error("no_open_files_left", error=error.strerror, advice="let this process open more files")


def harden(app: FastAPI, *, max_body_bytes: int) -> None:
    """Limit bodies, take them for JSON, and answer every fault with JSON that repeats no input."""
    app.add_exception_handler(RequestValidationError, _unprocessable)
    app.add_exception_handler(BAD_REQUEST, _unreadable)
    app.add_exception_handler(Exception, _failed)
    app.add_middleware(BodyLimit, max_bytes=max_body_bytes)


class BodyLimit:
    """Refuses a body over `max_bytes` with 413, by its announced length or as soon as it grows too long.

    What it lets pass has no type any more: callers name any type or none for the same JSON, and there is no other body.
    """

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
        headers = [line for line in scope["headers"] if line[0] != b"content-type"]
        await self._app({**scope, "headers": headers}, replay(body, receive), send)

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


def replay(body: bytes, receive: Receive) -> Callable[[], Awaitable[Message]]:
    """ASGI's receive, for a body that was read: it gives the body once, then whatever the server says."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _unprocessable(request: Request, error: Exception) -> Response:
    """What was wrong, without repeating the input: it may be a secret, or not even be encodable."""
    faults: list[Any] = list(error.errors()) if isinstance(error, RequestValidationError) else []
    detail = [{"type": fault["type"], "loc": fault["loc"], "msg": fault["msg"]} for fault in faults]
    return JSONResponse({"detail": detail, **_wanted(request)}, 422)


async def _unreadable(request: Request, _error: Exception) -> Response:
    return JSONResponse({"detail": "the body is no JSON in UTF-8, or nested too deep", **_wanted(request)}, BAD_REQUEST)


def _wanted(request: Request) -> dict[str, Any]:
    """What a good body for this endpoint looks like."""
    body = getattr(request.scope.get("route"), "body_field", None)
    model = body.field_info.annotation if body is not None else None
    extra = getattr(model, "model_config", {}).get("json_schema_extra")
    return {"example": extra["examples"][0]} if isinstance(extra, dict) else {}


async def _failed(_request: Request, error: Exception) -> Response:
    log.error("request_failed", error=repr(error))
    return JSONResponse({"detail": "something went wrong here; the server's log says more"}, 500)


def _one_line(record: logging.LogRecord) -> bool:
    """What a client does wrong is one line, not a traceback; what we do wrong stays one."""
    if str(record.msg).startswith("Invalid UTF-8"):
        record.exc_info = None
    return True
