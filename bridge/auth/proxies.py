"""Whose word counts about the client behind a request: that of the proxies that an operator trusts."""

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import Self

from starlette.types import ASGIApp, Receive, Scope, Send

from contract import forwarded
from contract.guards import comes_from
from contract.sections.base import networks
from contract.settings import Settings

THIS_MACHINE = ("127.0.0.0/8", "::1")


class Proxies:
    """Those of `bridge.trusted_proxies`; for a bridge that is open to its own machine only, those on that machine."""

    def __init__(self, trusted: Sequence[IPv4Network | IPv6Network]) -> None:
        self._trusted = trusted

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """As the settings name them."""
        is_open = settings.auth.mode == "open"
        return cls(networks(THIS_MACHINE if is_open else settings.bridge.trusted_proxies))

    def take_over(self, scope: Scope) -> None:
        """Let the scope tell of the client, if a trusted proxy handed its request on; nobody else is believed."""
        if forwarded.is_forwarded(scope["headers"]) and comes_from(scope.get("client"), self._trusted):
            forwarded.take_over(scope, self._trusts)

    def _trusts(self, address: str) -> bool:
        return comes_from((address, 0), self._trusted)


class BehindProxies:
    """ASGI, around a whole application: what it sees is what the client asked, by the word of trusted proxies."""

    def __init__(self, app: ASGIApp, proxies: Proxies) -> None:
        self._app = app
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] in {"http", "websocket"}:
            self._proxies.take_over(scope)
        await self._app(scope, receive, send)
