"""A user who is nowhere: when a device hears that, and what the user finds as missed when connecting at last."""

import asyncio
import statistics
import time
from collections.abc import Awaitable
from random import Random
from typing import Protocol

from tools.chaos.cluster.app_socket import FAULTS, Socket
from tools.chaos.cluster.house import ClusterHouse
from tools.chaos.cluster.judge import AROUND_S, GOOD, TTL_S, UNHURT_S, Called, Canaries, hurts_of

COMES_EVERY_S = 16.0
"""Longer than a wake lives: else each would ring."""
STAYS_S = 0.5
MISSED_AFTER_S = TTL_S + 3.0
"""So long after a wake it is over, and stands in the ledger."""
TOLD_WITHIN_S = 0.65
"""Most wakes are judged after 0.5 s. The next bridge in the order would do it after 0.75 s."""
ENOUGH = 5
LOSES = frozenset({"kill bridge", "drain bridge"})
"""Faults that end a bridge, and with it the memory of wakes that still live. Others only delay what it stores."""
COMINGS = 2
"""At the second coming, at the latest, a wake is told that was over before the first."""


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
        self._owed: list[Called] = []
        """Wakes that rang nowhere, and were not told as missed yet."""
        self.owed = 0
        """How many of them were due to be told while nothing was hurt."""

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
        if {status for _, status in one.outcomes} == {"user_not_connected"} and not one.rung:
            self._owed.append(one)
        times = [ids.count(one.wake_id) for _, _, ids in self.told]
        if max(times, default=0) > 1:
            return [f"missed twice: a wake for {self.uid} has two rows"]
        told = [(at, bridge) for (at, bridge, _), count in zip(self.told, times, strict=True) if count]
        if len(told) > 1 and not any(hurts_of(bridge, self._house.hurts, at - 1, at + 4) for at, bridge in told[:-1]):
            return [f"missed twice: {self.uid} was told of a wake at {' and '.join(bridge for _, bridge in told)}"]
        return []

    def overdue(self) -> list[str]:
        """Wakes that should have been told at a coming since, and were not; of bridges that nothing had hurt."""
        found = []
        for one in list(self._owed):
            later = [at for at, _, _ in self.told if at > one.at + MISSED_AFTER_S]
            if len(later) < COMINGS:
                continue
            self._owed.remove(one)
            if self._is_lost(one.at - UNHURT_S, one.at + MISSED_AFTER_S):
                continue
            self.owed += 1
            if all(one.wake_id not in ids for _, _, ids in self.told):
                found.append(f"unmissed: {self.uid} came and was not told of a wake that rang nowhere")
        return found

    def _is_lost(self, since: float, until: float) -> bool:
        hurts = [one for name in self._house.names for one in hurts_of(name, self._house.hurts, since, until)]
        return any(one.fault in LOSES for one in hurts)

    def last(self) -> list[str]:
        """What is wrong with all of them together; call it when the crowd is over."""
        if len(self._took_s) < ENOUGH or statistics.median(self._took_s) <= TOLD_WITHIN_S:
            return []
        took_s = statistics.median(self._took_s)
        return [f"tardy: half of {len(self._took_s)} devices waited {took_s:.2f} s to hear that no user is there"]
