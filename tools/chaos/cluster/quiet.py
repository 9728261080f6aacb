"""A user who connects and then says nothing: logged out, and not before the time-out."""

import asyncio
import time
from random import Random

from contract.app_socket import CloseCode
from tools.chaos.cluster.absent import Open
from tools.chaos.cluster.app_socket import FAULTS
from tools.chaos.cluster.house import ClusterHouse

AGAIN_S = 0.5
CLOCKS_S = 0.05


class Quiet:
    """Comes again and again, at any bridge."""

    def __init__(self, house: ClusterHouse, opens: Open, uid: str, chance: Random) -> None:
        self._house = house
        self._opens = opens
        self._uid = uid
        self._chance = chance
        self._found: list[str] = []

    async def live(self) -> None:
        """Until cancelled."""
        while True:
            asked = time.time()
            try:
                socket = await self._opens(self._uid, self._chance.choice(self._house.names), acks=True, beats=False)
            except FAULTS:
                await asyncio.sleep(AGAIN_S)
                continue
            await socket.task
            lasted_s = (socket.spell.ended or time.time()) - asked
            if socket.spell.code == CloseCode.HEARTBEAT_TIMEOUT and lasted_s < self._house.times.timeout_s - CLOCKS_S:
                self._found.append(f"false: {self._uid} was logged out {lasted_s:.1f} s after connecting")
            await asyncio.sleep(AGAIN_S)

    def judge(self) -> list[str]:
        """What was found since the last call."""
        found, self._found = self._found, []
        return found
