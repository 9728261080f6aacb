"""What this bridge told devices, for the other bridges: many outcomes in one message. Nothing rests on its arrival."""

import asyncio
from collections.abc import Callable

from contract.clock import Clock
from contract.messages import MOST_OUTCOMES, OutcomeStatus, encode_outcomes

PAUSE_S = 0.02
"""How long an outcome waits for others. The other bridges ask for a wake only after 150 ms without a word of it."""


class ToldOutcomes:
    """Run `run` as a task. An outcome of a wake replaces an earlier one that was not sent yet.

    Args:
        send: publishes encoded `Outcomes`; False if no broker is reached.
        is_heard: whether another bridge is there; else what waited is dropped.
    """

    def __init__(self, clock: Clock, *, send: Callable[[bytes], bool], is_heard: Callable[[], bool]) -> None:
        self._clock = clock
        self._send = send
        self._is_heard = is_heard
        self._waiting: dict[str, tuple[str, str, OutcomeStatus]] = {}
        self._some_wait = asyncio.Event()

    def add(self, device_id: str, wake_id: str, status: OutcomeStatus) -> None:
        """The device was told this outcome of its wake."""
        waiting = self._waiting
        if not waiting:
            self._some_wait.set()
        waiting[wake_id] = device_id, wake_id, status
        if len(waiting) >= MOST_OUTCOMES:
            self._flush()

    def answer(self) -> None:
        """Another bridge waits for what was just told: send it now, also if that bridge was not seen yet."""
        if self._waiting:
            self._flush(asked=True)

    async def run(self) -> None:
        """Send what waits until cancelled."""
        while True:
            await self._some_wait.wait()
            await self._clock.sleep(PAUSE_S)
            self._some_wait.clear()
            if self._waiting:
                self._flush()

    def _flush(self, *, asked: bool = False) -> None:
        waiting = list(self._waiting.values())
        self._waiting.clear()
        if asked or self._is_heard():
            self._send(encode_outcomes(waiting))
