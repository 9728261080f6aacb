"""What every HTTP server shares: its address, its limits, JSON errors, signals."""

import asyncio
import contextlib
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
from infra.accepting import Acceptor
from infra.connection_limits import ConnectionLimits, Guest
from infra.host_port import host_port
from infra.open_files import for_connections, raise_limit
from infra.telemetry import get_logger

BACKLOG = 2048
HANDSHAKE_WITHIN_S = 10.0
TICK_S = 1.0
BAD_REQUEST = 400

log = get_logger("http")


def example(body: dict[str, Any]) -> ConfigDict:
    """The configuration of a body's model: a correct example for the API description and for refusals."""
    return ConfigDict(json_schema_extra={"examples": [body]})


class UserRequest(BaseModel):
    """The documented body that names a user; more keys, like `action`, are ignored."""

    model_config = example({"uid": "alice"})

    uid: Uid


class Result(BaseModel):
    """The documented answer."""

    model_config = example({"success": True, "message": "Command sent"})

    success: bool
    message: str


class Problem(BaseModel):
    """Why a request was not carried out."""

    detail: str


def problems(more: dict[int, str] | None = None) -> dict[int | str, dict[str, Any]]:
    """The refusals of an endpoint for its API description; 422 is FastAPI's own."""
    told = {400: "The body is not text in UTF-8", 413: "The body is too large", **(more or {})}
    return {status: {"model": Problem, "description": why} for status, why in told.items()}


def listen(who: str, host: str, port: int, *, option: str) -> socket.socket:
    """A listening TCP socket that the caller closes; raises StartError that names the port and the option to use."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only if the protocol number is given: otherwise answers wait 40 ms for a delayed
    # acknowledgement.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        # From here on clients can connect to the address, and no other program can take it.
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
    return host_port(*sock.getsockname()[:2])


class Server(uvicorn.Server):
    """uvicorn with our own signal handling and bounded connections; with `tls` it speaks HTTPS and WSS."""

    def __init__(
        self, config: uvicorn.Config, *, tls: ssl.SSLContext | None = None, room: ConnectionLimits | None = None
    ) -> None:
        self._ends = asyncio.Event()
        super().__init__(config)
        self._tls = tls
        self._room = room
        logging.getLogger("uvicorn.error").addFilter(_one_line)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve these listening sockets, with as many connections as `room` or the limit of open files allows."""
        loop = asyncio.get_running_loop()
        room = ConnectionLimits(for_connections(raise_limit())) if self._room is None else self._room

        async def create_server(
            protocol: Callable[[], asyncio.Protocol], *, sock: socket.socket, backlog: int, **_: Any
        ) -> Acceptor:
            def make(guest: Guest) -> asyncio.Protocol:
                made = protocol()
                made.guest = guest  # type: ignore[attr-defined]
                return made

            # Use the given context: uvicorn itself would build one from files, once.
            acceptor = Acceptor(
                [sock], make, room,
                backlog=backlog, tell=_tell, tls=self._tls, handshake_s=HANDSHAKE_WITHIN_S,
            )  # fmt: skip
            acceptor.start()
            return acceptor

        create, loop.create_server = loop.create_server, create_server  # type: ignore[method-assign, assignment]
        try:
            await super().startup(sockets)
        finally:
            loop.create_server = create  # type: ignore[method-assign]

    @property
    def should_exit(self) -> bool:
        """Whether it is to end; set it from the thread of the event loop."""
        return self._ends.is_set()

    @should_exit.setter
    def should_exit(self, ends: bool) -> None:
        if ends:
            self._ends.set()
        else:
            self._ends.clear()

    async def main_loop(self) -> None:
        """Once a second, for the date in answers, and at once when it is to end; uvicorn itself wakes ten times."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._ends.wait()

    async def ended(self, serving: asyncio.Task[None], in_haste: asyncio.Event) -> None:
        """Wait for its end; at a second request to stop it no longer waits for connections."""
        haste = asyncio.create_task(in_haste.wait(), name="haste")
        await asyncio.wait([serving, haste], return_when=asyncio.FIRST_COMPLETED)
        haste.cancel()
        self.force_exit |= in_haste.is_set()
        await serving

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture no signals: `infra.stopping` does."""
        yield


def harden(app: FastAPI, *, max_body_bytes: int) -> None:
    """Limit bodies, parse them as JSON, and answer every fault with JSON that never repeats input."""
    app.add_exception_handler(RequestValidationError, _unprocessable)
    app.add_exception_handler(BAD_REQUEST, _unreadable)
    app.add_exception_handler(Exception, _failed)
    app.add_middleware(BodyLimit, max_bytes=max_body_bytes)


class BodyLimit:
    """Refuses a body over `max_bytes` with 413, by its announced length or as soon as it becomes too long.

    It removes the content type: callers send any type or none for the same JSON, and no other bodies exist.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
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
    """An ASGI receive for a body that was already read: it returns the body once, then the server's messages."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _unprocessable(request: Request, error: Exception) -> Response:
    """The fault without the input, which may be a secret or not even be encodable."""
    faults: list[Any] = list(error.errors()) if isinstance(error, RequestValidationError) else []
    detail = [{"type": fault["type"], "loc": fault["loc"], "msg": fault["msg"]} for fault in faults]
    return JSONResponse({"detail": detail, **_wanted(request)}, 422)


async def _unreadable(request: Request, _error: Exception) -> Response:
    return JSONResponse(
        {"detail": "the body is not JSON in UTF-8, or nested too deep", **_wanted(request)}, BAD_REQUEST
    )


def _wanted(request: Request) -> dict[str, Any]:
    """A correct body for this endpoint."""
    body = getattr(request.scope.get("route"), "body_field", None)
    model = body.field_info.annotation if body is not None else None
    extra = getattr(model, "model_config", {}).get("json_schema_extra")
    return {"example": extra["examples"][0]} if isinstance(extra, dict) else {}


async def _failed(_request: Request, error: Exception) -> Response:
    log.error("request_failed", error=repr(error))
    return JSONResponse({"detail": "an internal error occurred; the server's log has the details"}, 500)


def _tell(event: str, /, **fields: object) -> None:
    log.warning(event, **fields)


def _one_line(record: logging.LogRecord) -> bool:
    """A client's fault is one line, not a traceback; an internal error keeps its traceback."""
    if str(record.msg).startswith("Invalid UTF-8"):
        record.exc_info = None
    return True
