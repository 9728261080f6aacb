"""Time as a parameter: monotonic seconds for deadlines, aware UTC for time stamps."""

import time
from datetime import UTC, datetime
from typing import Protocol


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


def iso(moment: datetime) -> str:
    """ISO 8601 with offset, the only form of time stamps on the wire."""
    return moment.isoformat()


_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
