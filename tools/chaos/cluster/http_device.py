"""A user of a Jetson that speaks only HTTP: logs out, and comes back at once while the log-out is being posted."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

from tools.chaos.cluster.absent import Open
from tools.chaos.cluster.app_socket import FAULTS
from tools.chaos.cluster.house import HTTP_USER, ClusterHouse

Post = Callable[[str, dict[str, Any]], Awaitable[bool]]

STAYS_S = 1.0
AGAIN_S = 0.1
HANGS_S = 0.5
"""For how long the Jetson keeps the bridge waiting for its answer, every other time."""
ASKED_FOR_S = 30.0


class HttpDevice:
    """No log-out may reach the Jetson after its user has logged in again, by whichever bridge.

    Attributes:
        cycles: how often the user logged in.
    """

    def __init__(self, house: ClusterHouse, opens: Open, post: Post, chance: Random) -> None:
        self.cycles = 0
        self._house = house
        self._opens = opens
        self._post = post
        self._chance = chance
        self._found: list[str] = []

    async def live(self) -> None:
        """Until cancelled."""
        jetson = self._house.jetson
        asked_once = True
        while True:
            try:
                socket = await self._opens(HTTP_USER, self._chance.choice(self._house.names), acks=True)
            except FAULTS:
                await asyncio.sleep(AGAIN_S)
                continue
            posts = len(jetson.posts)
            self.cycles += 1
            began = time.monotonic()
            while time.monotonic() < began + STAYS_S and socket.spell.ended is None:
                await asyncio.sleep(AGAIN_S)
                # A request without an answer may be carried out later; so may a time-out, once the socket is gone.
                if len(jetson.posts) > posts and asked_once and socket.spell.ended is None:
                    self._found.append(f"early: a log-out was posted after {HTTP_USER} had logged in again")
                    break
            jetson.hold()
            asyncio.get_running_loop().call_later(HANGS_S * (self.cycles % 2), jetson.release)
            asked_once = await self._log_out()
            socket.cut()

    def judge(self) -> list[str]:
        """What was found since the last call."""
        found, self._found = self._found, []
        return found

    async def _log_out(self) -> bool:
        """Whether the first request was answered."""
        end = time.monotonic() + ASKED_FOR_S
        times = 1
        while not await self._post("/api/auth/logout", {"uid": HTTP_USER}) and time.monotonic() < end:
            times += 1
            await asyncio.sleep(AGAIN_S)
        return times == 1
