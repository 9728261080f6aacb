import asyncio
from datetime import UTC, datetime, timedelta

from contract.clock import SystemClock
from tests.support.waiting import wait_until

STEP_S = 0.25
TURNS = 20
"""Of the event loop, in which tasks that were woken do what they do without waiting for the world."""


class ManualClock:
    """Time stands still until a test moves it; then those who sleep wake up in the order of their times."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._epoch = datetime(2026, 1, 1, tzinfo=UTC)
        self._asleep: list[tuple[float, asyncio.Future[None]]] = []

    def monotonic(self) -> float:
        return self._now

    def utc_now(self) -> datetime:
        return self._epoch + timedelta(seconds=self._now)

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        entry = (self._now + seconds, asyncio.get_running_loop().create_future())
        self._asleep.append(entry)
        try:
            await entry[1]
        finally:
            if entry in self._asleep:
                self._asleep.remove(entry)

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        either = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(self.sleep(seconds))]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in either:
                one.cancel()
        return event.is_set()

    @property
    def sleepers(self) -> int:
        """How many wait for time to pass."""
        return len(self._asleep)

    def advance(self, seconds: float) -> None:
        """Time has passed; who sleeps no longer goes on at the next turn of the loop."""
        self._now += seconds
        if self._asleep:
            over = sorted((entry for entry in self._asleep if entry[0] <= self._now), key=lambda entry: entry[0])
            for entry in over:
                self._asleep.remove(entry)
                if not entry[1].done():
                    entry[1].set_result(None)

    async def run(self, seconds: float, *, sleepers: int = 1, step_s: float = STEP_S) -> None:
        """Time passes in steps; the next one comes when this many sleep again, whatever the world takes for it."""
        for step in range(round(seconds / step_s) + 1):
            self.advance(step_s if step else 0.0)
            await settle()
            await wait_until("the loops sleep", lambda: self.sleepers >= sleepers)


class LeapingClock(SystemClock):
    """The machine's clock, in which time can leap."""

    def __init__(self) -> None:
        self._leapt_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self._leapt_s

    def advance(self, seconds: float) -> None:
        self._leapt_s += seconds


async def settle() -> None:
    """Let tasks run until they wait: for time, or for the world."""
    for _ in range(TURNS):
        await asyncio.sleep(0)
