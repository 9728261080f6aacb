"""Accepts what trusted proxies report about their clients, and ignores such headers from other peers."""

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import Self

from starlette.types import ASGIApp, Receive, Scope, Send

from infra.settings.base import networks
from infra.settings.loader import Settings
from infra.web import forwarded
from infra.web.middleware import comes_from

THIS_MACHINE = ("127.0.0.0/8", "::1")


class Proxies:
    """The proxies of `bridge.trusted_proxies`; without credentials only those on this machine."""

    def __init__(self, trusted: Sequence[IPv4Network | IPv6Network]) -> None:
        self._trusted = trusted

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """As configured."""
        is_open = settings.auth.mode == "open"
        return cls(networks(THIS_MACHINE if is_open else settings.bridge.trusted_proxies))

    def take_over(self, scope: Scope) -> None:
        """Put the client into the scope if a trusted proxy forwarded its request; other peers' headers are ignored."""
        if forwarded.is_forwarded(scope["headers"]) and comes_from(scope.get("client"), self._trusted):
            forwarded.take_over(scope, self._trusts)

    def _trusts(self, address: str) -> bool:
        return comes_from((address, 0), self._trusted)


class BehindProxies:
    """An ASGI middleware around an application, which then sees the client's request as trusted proxies report it."""

    def __init__(self, app: ASGIApp, proxies: Proxies) -> None:
        self._app = app
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] in {"http", "websocket"}:
            self._proxies.take_over(scope)
        await self._app(scope, receive, send)
