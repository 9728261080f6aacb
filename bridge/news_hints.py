"""Hints that the ledger changed: other bridges look at once, not half a second later. Nothing rests on them."""

import asyncio
import contextlib
from collections.abc import Callable

from bridge.cluster.peers import Peers
from bridge.sessions.service import Sessions
from bridge.storage.store import StoreError
from contract.clock import Clock
from contract.messages import News

PAUSE_S = 0.05
"""The mean time between two hints of many, and between two looks that they cause."""
AT_ONCE = 10
"""How many come without a pause after a quiet time: a single log-out waits for nothing."""


class Pace:
    """Lets `AT_ONCE` of something happen at once, and then one in each `PAUSE_S`. Times are monotonic."""

    def __init__(self) -> None:
        self._paid_until = float("-inf")

    def pause_s(self, now: float) -> float:
        """It happened now; how long the next one has to wait."""
        self._paid_until = max(self._paid_until, now) + PAUSE_S
        return max(0.0, self._paid_until - now - (AT_ONCE - 1) * PAUSE_S)


class NewsHints:
    """Run `run` and `look` as tasks.

    Args:
        send: publishes a hint; False if no broker is reached.
    """

    def __init__(self, sessions: Sessions, clock: Clock, send: Callable[[News], bool]) -> None:
        self._sessions = sessions
        self._clock = clock
        self._send = send
        self._changed = asyncio.Event()
        self._hinted = asyncio.Event()

    @property
    def _peers(self) -> Peers:
        return self._sessions.peers

    def changed(self) -> None:
        """An event of sessions is told: a hint goes out soon, if it is of this bridge's doing."""
        if not self._sessions.follows and not self._peers.alone:
            self._changed.set()

    def heard(self, news: News) -> None:
        """Another bridge changed the ledger."""
        if news.turn > self._sessions.turn:
            self._hinted.set()

    async def run(self) -> None:
        """Send hints until cancelled."""
        pace = Pace()
        while True:
            await self._changed.wait()
            self._changed.clear()
            self._send(News(turn=self._sessions.turn))
            await self._clock.sleep(pace.pause_s(self._clock.monotonic()))

    async def look(self) -> None:
        """Look when a hint came, until cancelled."""
        pace = Pace()
        while True:
            await self._hinted.wait()
            self._hinted.clear()
            with contextlib.suppress(StoreError):  # the store has logged the reason once; the next tick looks again
                await self._sessions.look()
            await self._clock.sleep(pace.pause_s(self._clock.monotonic()))
