"""Time as a parameter: monotonic seconds for deadlines, aware UTC for time stamps, and sleep."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol

STAMP_S = 0.001


class Clock(Protocol):
    """A monotonic clock and a wall clock, and sleep."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never goes back, and includes the time that a machine sleeps."""
        ...

    def utc_now(self) -> datetime:
        """The wall clock, aware, in UTC; only for time stamps."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return so much later; after 0 or less when other tasks have run."""
        ...

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        """Return True when the event is set, False if the time is over."""
        ...


class SystemClock:
    """The machine's clocks."""

    def monotonic(self) -> float:
        """CLOCK_BOOTTIME where the system has it, so that leases also run out while the machine is suspended."""
        return time.clock_gettime(_CLOCK)

    def utc_now(self) -> datetime:
        """Now, aware, in UTC."""
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        """On the event loop; the time a machine sleeps does not count."""
        await asyncio.sleep(seconds)

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        """The same, or until the event is set."""
        try:
            async with asyncio.timeout(seconds):
                return await event.wait()
        except TimeoutError:
            return event.is_set()


class Stamps:
    """Cached time stamps for hot paths: all within one millisecond are the same text."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._text = ""
        self._until = float("-inf")

    def now(self) -> str:
        """ISO 8601 with offset, at most a millisecond old."""
        monotonic = self._clock.monotonic()
        if monotonic >= self._until:
            self._until = monotonic + STAMP_S
            self._text = iso(self._clock.utc_now())
        return self._text


def clock_ms(clock: Clock) -> int:
    """Whole milliseconds of `Clock.monotonic`, for messages; only a difference of two values has a meaning."""
    return int(clock.monotonic() * 1000)


def iso(moment: datetime) -> str:
    """ISO 8601 with offset, the only form of time stamps on the wire."""
    return moment.isoformat()


_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
