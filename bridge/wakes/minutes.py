"""Wakes and their latency by the minute, for one hour. No I/O; times are Unix time."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

MINUTE_S = 60.0
MINUTES = 60
HALF_A_STEP = 1.2**0.5
BOUNDS_MS: tuple[float, ...] = tuple(0.1 * 1.2**number for number in range(76))
"""Upper bounds, each 1.2 times the one before: a quantile is at most 10 percent away from the true one. The last is
above a minute, and so above the life of a wake.
"""


@dataclass(slots=True)
class Minute:
    """What one minute had.

    Attributes:
        wakes: those that were received and got their first outcome.
        latencies: how many confirmations fell below each bound, by the number of the bound.
    """

    wakes: int = 0
    latencies: Counter[int] = field(default_factory=Counter)

    @property
    def acked(self) -> int:
        """How many an app confirmed."""
        return self.latencies.total()

    def quantile_ms(self, share: float) -> float | None:
        """The latency that this share of the confirmed wakes did not exceed; None without any."""
        wanted, seen = share * self.acked, 0
        for number in sorted(self.latencies):
            seen += self.latencies[number]
            if seen >= wanted:
                return BOUNDS_MS[number] / HALF_A_STEP
        return None


class Minutes:
    """The last hour; only minutes in which something happened take memory."""

    def __init__(self, began: float) -> None:
        self._began = int(began // MINUTE_S)
        self._by_number: dict[int, Minute] = {}

    def add(self, at: float, wakes: int, latencies_ms: Iterable[float]) -> None:
        """Count wakes, and confirmations by how long they took."""
        number = int(at // MINUTE_S)
        minute = self._by_number.get(number)
        if minute is None:
            for old in [one for one in self._by_number if not number - MINUTES < one <= number]:
                del self._by_number[old]
            minute = self._by_number[number] = Minute()
        minute.wakes += wakes
        minute.latencies.update(min(bisect_left(BOUNDS_MS, ms), len(BOUNDS_MS) - 1) for ms in latencies_ms)

    def hour(self, now: float) -> list[Minute | None]:
        """60 minutes, the current one last; None for those before this began."""
        last = int(now // MINUTE_S)
        return [
            None if number < self._began else self._by_number.get(number, _NONE)
            for number in range(last - MINUTES + 1, last + 1)
        ]


_NONE = Minute()


def summed_up(minutes: Sequence[Minute]) -> Minute:
    """Several minutes as one; do not change it."""
    if len(minutes) == 1:
        return minutes[0]
    total = Minute()
    for one in minutes:
        total.wakes += one.wakes
        total.latencies.update(one.latencies)
    return total
