"""Refuses HTTP requests by the peer's address and by the page's origin, before the body is read."""

import time
from collections.abc import Collection, Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from infra.host_port import bracketed
from infra.log_limit import LogLimit
from infra.origins import host_of, is_among, is_own, origin_of
from infra.telemetry import get_logger
from infra.web.forwarded import FORWARDED_HOST, Headers

MAX_TOLD_CHARACTERS = 200
_LOOPBACK = (IPv4Address("127.0.0.1"), IPv6Address("::1"))

log = get_logger("guards")


class AllowedNetworks:
    """Refuses with 403 peers outside these networks, and peers without an address.

    It logs that once a minute for each address, with `advice`.
    """

    def __init__(self, app: ASGIApp, networks: Iterable[IPv4Network | IPv6Network], *, advice: str = "") -> None:
        self._app = app
        self._networks = list(networks)
        self._advice = advice
        self._rarely = LogLimit()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] in {"http", "websocket"} and not comes_from(scope.get("client"), self._networks):
            peer = (scope.get("client") or ("",))[0]
            if self._rarely.is_due(peer, time.monotonic()):
                log.warning("address_refused", address=peer, advice=self._advice)
            await _refuse(scope, receive, send, "calls from this address are not allowed here")
            return
        await self._app(scope, receive, send)


def comes_from(client: tuple[str, int] | None, networks: Iterable[IPv4Network | IPv6Network]) -> bool:
    """Whether the peer of a connection is in one of the networks.

    An IPv4 address mapped into IPv6 counts as IPv4, and 127.0.0.1 and ::1 as the same: both are this machine.
    """
    try:
        address = ip_address(client[0] if client else "")
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    same = _LOOPBACK if address in _LOOPBACK else (address,)
    return any(one in network for network in networks for one in same)


class Origins:
    """Recognises requests that pages of other sites send through a visitor's browser, over HTTP and WebSocket.

    Args:
        origins: the sites that may call, besides our own, as `https://app.example`.
        hosts: the names by which this server may be called, besides addresses and localhost: a foreign page can point
            its own name to our address (DNS rebinding). None: any name, if a credential is required anyway.
        files: the path below which there are only public files. Browsers send an origin for them, too.
    """

    def __init__(
        self, origins: Collection[str], hosts: Collection[str] | None = None, *, files: str | None = None
    ) -> None:
        self._origins = origins
        self._hosts = hosts
        self._files = files

    def refusal(self, scope: Scope) -> str | None:
        """Why this request is refused, without quoting it; None if it is allowed."""
        headers = scope["headers"]
        forwarded = scope.get(FORWARDED_HOST)
        if self._hosts is not None and not (
            is_known_host(headers, self._hosts) and (forwarded is None or _is_known(forwarded, self._hosts))
        ):
            return "this server is not called by that name; use its address"
        if self._is_file(scope):
            return None
        if is_foreign_page(headers, scope.get("scheme", "http"), self._origins, forwarded):
            return OUR_HOST_REFUSED if _is_of_our_host(headers, forwarded) else "pages of this origin may not call here"
        return None

    def may_read(self, origin: str) -> bool:
        """Whether the origin is one of the configured ones."""
        told = origin_of(origin)
        return told is not None and is_among(told, self._origins)

    def _is_file(self, scope: Scope) -> bool:
        if self._files is None or scope["type"] != "http" or scope["method"] not in {"GET", "HEAD"}:
            return False
        path: str = scope["path"]
        return path == self._files or path.startswith(f"{self._files}/")


OUR_HOST_REFUSED = (
    "pages of this origin may not call here: it has the host of this server, with another port or scheme. A proxy must "
    "hand on Host with its port (nginx: proxy_set_header Host $http_host) and X-Forwarded-Proto, and be trusted"
)


class OriginGuard:
    """Refuses with 403 what Origins refuses, and logs that once a minute for each origin and host."""

    def __init__(self, app: ASGIApp, origins: Origins, *, advice: str = "") -> None:
        self._app = app
        self._origins = origins
        self._advice = advice
        self._rarely = LogLimit()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        detail = self._origins.refusal(scope) if scope["type"] in {"http", "websocket"} else None
        if detail is None:
            await self._app(scope, receive, send)
            return
        tell_refused(scope, detail, self._advice, self._rarely)
        await _refuse(scope, receive, send, detail)


class NamedPages(CORSMiddleware):
    """Lets browsers show answers to the pages of configured origins, and lets these send a credential (CORS)."""

    def __init__(self, app: ASGIApp, origins: Origins, *, advice: str = "") -> None:
        super().__init__(
            app, allow_methods=["GET", "POST"], allow_headers=["authorization", "content-type", "x-api-key"]
        )
        self._origins = origins
        self._advice = advice
        self._rarely = LogLimit()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] == "http" and _is_preflight(scope) and not self.is_allowed_origin(_origin_told(scope)):
            tell_refused(scope, "pages of this origin may not call here", self._advice, self._rarely)
        await super().__call__(scope, receive, send)

    def is_allowed_origin(self, origin: str) -> bool:
        """The verdict of Origins, for any spelling of the header."""
        return self._origins.may_read(origin)


def _is_preflight(scope: Scope) -> bool:
    return scope["method"] == "OPTIONS" and any(
        name == b"access-control-request-method" for name, _ in scope["headers"]
    )


def _origin_told(scope: Scope) -> str:
    return next(iter(_values(scope["headers"], b"origin")), "")


def tell_refused(scope: Scope, reason: str, advice: str, rarely: LogLimit) -> None:
    """Log that a request was refused for its origin, at most once a minute for the same origin and host."""
    told = told_of(scope["headers"])
    if (forwarded := scope.get(FORWARDED_HOST)) is not None:
        told["forwarded_host"] = _printable(forwarded)
    if rarely.is_due((reason, *told.items()), time.monotonic()):
        log.warning("page_refused", **told, path=_printable(scope["path"]), reason=reason, advice=advice)


def told_of(headers: Headers) -> dict[str, str | None]:
    """Origin and Host of a request, fit for a log."""
    headers = list(headers)
    return {name: _shown(headers, name.encode()) for name in ("origin", "host")}


def is_foreign_page(headers: Headers, scheme: str, origins: Collection[str], forwarded_host: str | None = None) -> bool:
    """Whether a browser's page of another origin calls: neither `scheme`://Host nor one of `origins`.

    `null` is foreign unless it is configured. `forwarded_host` counts as Host does.
    """
    headers = list(headers)
    told = _values(headers, b"origin")
    if not told:
        return False  # not a browser, or a request that only reads
    hosts = _hosts(headers, forwarded_host)
    return not all(
        (origin := origin_of(text)) is not None and (is_own(origin, scheme, hosts) or is_among(origin, origins))
        for text in told
    )


def is_known_host(headers: Headers, hosts: Collection[str]) -> bool:
    """Whether the server is called by an address, as localhost or by one of `hosts`; or has no Host, as no browser."""
    return all(_is_known(told, hosts) for told in _values(headers, b"host"))


def _is_known(told: str, hosts: Collection[str]) -> bool:
    found = host_of(told)
    if found is None:
        return False
    name = found[0]
    return (
        name == "localhost" or _is_address(name) or any(host_of(host) == (name, None) for host in map(bracketed, hosts))
    )


def _is_of_our_host(headers: Headers, forwarded_host: str | None) -> bool:
    headers = list(headers)
    names = {host[0] for told in _hosts(headers, forwarded_host) if (host := host_of(told)) is not None}
    return any((origin := origin_of(text)) is not None and origin.host in names for text in _values(headers, b"origin"))


def _hosts(headers: list[tuple[bytes, bytes]], forwarded_host: str | None) -> list[str]:
    hosts = _values(headers, b"host")
    return [*(hosts if len(hosts) == 1 else []), *([forwarded_host] if forwarded_host is not None else [])]


def _values(headers: Headers, name: bytes) -> list[str]:
    return [value.decode("latin-1").strip() for key, value in headers if key == name]


def _shown(headers: Headers, name: bytes) -> str | None:
    values = _values(headers, name)
    return _printable(", ".join(values)) if values else None


def _printable(text: str) -> str:
    """Fit for a log: the caller chose the text."""
    return "".join(one if one.isprintable() else "?" for one in text[:MAX_TOLD_CHARACTERS])


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


async def _refuse(scope: Scope, receive: Receive, send: Send, detail: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": ""})  # before accept: the server answers 403
        return
    # The body is not read, so the connection cannot be used again.
    await JSONResponse({"detail": detail}, 403, {"connection": "close"})(scope, receive, send)
