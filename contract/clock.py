"""Time as a parameter: monotonic seconds for deadlines, aware UTC for time stamps."""

import time
from datetime import UTC, datetime
from typing import Protocol

STAMP_S = 0.001


class Clock(Protocol):
    """Tells both kinds of time."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never goes back, and counts the time a machine sleeps."""
        ...

    def utc_now(self) -> datetime:
        """The wall clock, aware, in UTC; only for time stamps."""
        ...


class SystemClock:
    """The machine's clocks."""

    def monotonic(self) -> float:
        """CLOCK_BOOTTIME where there is one: a suspended machine's leases go on running out."""
        return time.clock_gettime(_CLOCK)

    def utc_now(self) -> datetime:
        """Now, aware, in UTC."""
        return datetime.now(UTC)


class Stamps:
    """Time stamps where many are needed: those of one millisecond are the same."""

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
    """Whole milliseconds of `Clock.monotonic`, for messages: only the difference of two of them says something."""
    return int(clock.monotonic() * 1000)


def iso(moment: datetime) -> str:
    """ISO 8601 with offset, the only form of time stamps on the wire."""
    return moment.isoformat()


_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
