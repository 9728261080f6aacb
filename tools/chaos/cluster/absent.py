"""A user who is nowhere: when a device hears that, and what the user finds as missed when connecting at last."""

import asyncio
import statistics
import time
from collections.abc import Awaitable
from random import Random
from typing import Protocol

from tools.chaos.cluster.app_socket import FAULTS, Socket
from tools.chaos.cluster.house import ClusterHouse
from tools.chaos.cluster.judge import AROUND_S, GOOD, Called, Canaries, hurts_of

COMES_EVERY_S = 16.0
"""Longer than a wake lives: else each would ring."""
STAYS_S = 0.5
TOLD_WITHIN_S = 0.65
"""Most wakes are judged after 0.5 s. The next bridge in the order would do it after 0.75 s."""
ENOUGH = 5


class Open(Protocol):
    """Opens a socket that is established; raises FAULTS."""

    def __call__(
        self, uid: str, bridge: str, *, acks: bool, client: str | None = None, beats: bool = True
    ) -> Awaitable[Socket]: ...


class Absent:
    """Comes for a moment now and then, at any bridge, and is told what was missed.

    Attributes:
        told: at each coming: when, at which bridge, and the ids of what was missed.
    """

    def __init__(self, house: ClusterHouse, opens: Open, uid: str, chance: Random) -> None:
        self.uid = uid
        self.told: list[tuple[float, str, list[str]]] = []
        self._house = house
        self._opens = opens
        self._chance = chance
        self._took_s: list[float] = []

    async def live(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(COMES_EVERY_S)
            bridge = self._chance.choice(self._house.names)
            try:
                socket = await self._opens(self.uid, bridge, acks=True)
            except FAULTS:
                continue
            self.told.append((time.time(), bridge, [one["id"] for one in socket.greeting["missed"]]))
            await asyncio.sleep(STAYS_S)
            await socket.close()

    def judge(self, one: Called, canaries: Canaries) -> list[str]:
        """What is wrong with a wake whose life is over for a while."""
        names = self._house.names
        well = canaries.all_well(names, one.at - AROUND_S, one.at + AROUND_S)
        if well and not one.again and one.outcomes and one.outcomes[0][1] not in GOOD:
            self._took_s.append(one.outcomes[0][0] - one.at)
        times = [ids.count(one.wake_id) for _, _, ids in self.told]
        if max(times, default=0) > 1:
            return [f"missed twice: a wake for {self.uid} has two rows"]
        told = [(at, bridge) for (at, bridge, _), count in zip(self.told, times, strict=True) if count]
        if len(told) > 1 and not any(hurts_of(bridge, self._house.hurts, at - 1, at + 4) for at, bridge in told[:-1]):
            return [f"missed twice: {self.uid} was told of a wake at {' and '.join(bridge for _, bridge in told)}"]
        return []

    def last(self) -> list[str]:
        """What is wrong with all of them together; call it when the crowd is over."""
        if len(self._took_s) < ENOUGH or statistics.median(self._took_s) <= TOLD_WITHIN_S:
            return []
        took_s = statistics.median(self._took_s)
        return [f"tardy: half of {len(self._took_s)} devices waited {took_s:.2f} s to hear that no user is there"]
