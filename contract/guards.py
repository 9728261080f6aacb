"""Who may call an HTTP server at all, before anything is read: by the peer's address, and by the page that calls."""

import re
from collections.abc import Collection, Iterable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[^\[\]:/@?#\s]+)(:\d{0,5})?")
_PORTS = {"http": 80, "https": 443}
_PAGE_SCHEMES = {"ws": "http", "wss": "https"}


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


class Origins:
    """Tells what pages of other sites send through a visitor's browser: HTTP requests and WebSockets.

    Args:
        origins: the sites that may, besides our own, as `https://app.example`.
        hosts: the names by which this server may be called, besides addresses and localhost: a foreign page can give
            its own name our address (DNS rebinding). None: any, where a credential is asked for anyway.
    """

    def __init__(self, origins: Collection[str], hosts: Collection[str] | None) -> None:
        self._origins = origins
        self._hosts = hosts

    def refusal(self, scope: Scope) -> str | None:
        """Why this request is refused; None when it is not."""
        headers = scope["headers"]
        if self._hosts is not None and not is_known_host(headers, self._hosts):
            return "this server is not called by that name; use its address"
        if is_foreign_page(headers, scope.get("scheme", "http"), self._origins):
            return "pages of this origin may not call here"
        return None


class OriginGuard:
    """Refuses with 403 what Origins refuses."""

    def __init__(self, app: ASGIApp, origins: Origins) -> None:
        self._app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        detail = self._origins.refusal(scope) if scope["type"] in {"http", "websocket"} else None
        if detail is None:
            await self._app(scope, receive, send)
        else:
            await _refuse(scope, receive, send, detail)


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
