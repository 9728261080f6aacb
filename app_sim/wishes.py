"""Requests of the app's user that the server has not yet answered."""

import asyncio
from typing import Literal

WishKind = Literal["login", "logout"]


class Wishes:
    """At most one open request of each kind, the newest; each is sent once per connection until it is answered."""

    def __init__(self) -> None:
        self._open: dict[WishKind, str] = {}
        self._unsent: dict[WishKind, str] = {}
        self._any_unsent = asyncio.Event()

    def wish(self, kind: WishKind, frame: str) -> None:
        """Send this frame to the server as a request."""
        self._open[kind] = frame
        self._unsent[kind] = frame
        self._any_unsent.set()

    def settle(self, kind: WishKind) -> None:
        """The request was answered, or another one makes it pointless."""
        self._open.pop(kind, None)
        self._unsent.pop(kind, None)

    def is_open(self, kind: WishKind) -> bool:
        """Whether the request still waits for its answer."""
        return kind in self._open

    def renew(self) -> None:
        """A new connection is open: send every open request on it."""
        self._unsent = dict(self._open)
        if self._unsent:
            self._any_unsent.set()

    async def next(self) -> str:
        """Wait for a frame to send."""
        while not self._unsent:
            self._any_unsent.clear()
            await self._any_unsent.wait()
        return self._unsent.pop(next(iter(self._unsent)))
