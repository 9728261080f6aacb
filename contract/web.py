"""What every HTTP server of ours shares: its address, its limits, who may ask, errors that are always JSON, signals."""

import contextlib
import logging
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contract.errors import StartError
from contract.messages import Uid
from contract.telemetry import get_logger

BACKLOG = 2048

_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[^\[\]:/@?#\s]+)(:\d{0,5})?")
_PORTS = {"http": 80, "https": 443}
_PAGE_SCHEMES = {"ws": "http", "wss": "https"}

log = get_logger("http")


class UserRequest(BaseModel):
    """The documented body that names a user; more keys, like `action`, are ignored."""

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
        await super().startup(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def harden(app: FastAPI, *, max_body_bytes: int) -> None:
    """Limit bodies and answer every fault with JSON that repeats no input."""
    app.add_exception_handler(RequestValidationError, _unprocessable)
    app.add_exception_handler(Exception, _failed)
    app.add_middleware(BodyLimit, max_bytes=max_body_bytes)


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


class AllowedNetworks:
    """Refuses with 403 who calls from elsewhere than these networks, and who has no address."""

    def __init__(self, app: ASGIApp, networks: Iterable[IPv4Network | IPv6Network]) -> None:
        self._app = app
        self._networks = list(networks)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] in {"http", "websocket"} and not comes_from(scope.get("client"), self._networks):
            await _refuse(scope, receive, send, "calls from this address are not allowed here")
            return
        await self._app(scope, receive, send)


def comes_from(client: tuple[str, int] | None, networks: Iterable[IPv4Network | IPv6Network]) -> bool:
    """Is the peer of a connection in one of the networks? An IPv4 address that was mapped into IPv6 counts as IPv4."""
    try:
        address = ip_address(client[0] if client else "")
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in networks)


class OriginGuard:
    """Refuses with 403 what pages of other sites send through a visitor's browser: HTTP requests and WebSockets.

    Args:
        origins: the sites that may, besides our own, as `https://app.example`.
        hosts: the names by which this server may be called, besides addresses and localhost: a foreign page can give
            its own name our address (DNS rebinding). None: any, where a credential is asked for anyway.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str], hosts: Collection[str] | None) -> None:
        self._app = app
        self._origins = origins
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] in {"http", "websocket"}:
            headers = scope["headers"]
            if self._hosts is not None and not is_known_host(headers, self._hosts):
                await _refuse(scope, receive, send, "this server is not called by that name; use its address")
                return
            if is_foreign_page(headers, scope.get("scheme", "http"), self._origins):
                await _refuse(scope, receive, send, "pages of this origin may not call here")
                return
        await self._app(scope, receive, send)


Headers = Iterable[tuple[bytes, bytes]]
"""As ASGI has them: names in lower case."""


def is_foreign_page(headers: Headers, scheme: str, origins: Collection[str]) -> bool:
    """Does a browser's page of another origin call: not of `scheme`://Host and none of `origins`? `null` is foreign."""
    headers = list(headers)
    told = _values(headers, b"origin")
    if not told:
        return False  # no browser, or one that only looks
    hosts = _values(headers, b"host")
    ours = {_origin(origin) for origin in origins}
    if len(hosts) == 1:
        ours.add(_origin(f"{_PAGE_SCHEMES.get(scheme, scheme)}://{hosts[0]}"))
    ours.discard(None)
    return any(_origin(origin) not in ours for origin in told)


def is_known_host(headers: Headers, hosts: Collection[str]) -> bool:
    """Is the server called by an address, as localhost or by one of `hosts`? No Host at all: that is no browser."""
    for told in _values(headers, b"host"):
        found = _HOST.fullmatch(told)
        if found is None:
            return False
        name = _plain(found["name"])
        if name != "localhost" and name not in {_plain(host) for host in hosts} and not _is_address(name):
            return False
    return True


def _values(headers: Headers, name: bytes) -> list[str]:
    return [value.decode("latin-1").strip() for key, value in headers if key == name]


def _plain(host: str) -> str:
    return host.strip("[]").rstrip(".").lower()


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _origin(text: str) -> tuple[str, str, int] | None:
    """Scheme, host and port; None when it is none."""
    try:
        parts = urlsplit(text)
        port = parts.port or _PORTS[parts.scheme]
    except (ValueError, KeyError):
        return None
    return (parts.scheme, parts.hostname, port) if parts.hostname else None


async def _refuse(scope: Scope, receive: Receive, send: Send, detail: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": ""})  # before accept: the server answers 403
        return
    # The body is not read: the connection cannot be used again.
    await JSONResponse({"detail": detail}, 403, {"connection": "close"})(scope, receive, send)


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


async def _unprocessable(_request: Request, error: Exception) -> Response:
    """What was wrong, without repeating the input: it may be a secret, or not even be encodable."""
    faults: list[Any] = list(error.errors()) if isinstance(error, RequestValidationError) else []
    detail = [{"type": fault["type"], "loc": fault["loc"], "msg": fault["msg"]} for fault in faults]
    return JSONResponse({"detail": detail}, 422)


async def _failed(_request: Request, error: Exception) -> Response:
    log.error("request_failed", error=repr(error))
    return JSONResponse({"detail": "something went wrong here; the server's log says more"}, 500)


def _one_line(record: logging.LogRecord) -> bool:
    """What a client does wrong is one line, not a traceback; what we do wrong stays one."""
    if str(record.msg).startswith("Invalid UTF-8"):
        record.exc_info = None
    return True
