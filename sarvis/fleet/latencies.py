"""Latencies in constant memory. No I/O."""

import math
from collections import Counter
from dataclasses import dataclass

STEPS_PER_DOUBLING = 16
"""Neighbouring buckets differ by 4.4 %: no percentile is further than that from the true value."""
SHORTEST_S = 1e-6


@dataclass(frozen=True, slots=True)
class Spread:
    """Measured values, in milliseconds; None while there are none."""

    p50: float | None
    p99: float | None
    max: float | None


class Latencies:
    """A histogram whose buckets grow with their value."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._longest_s = 0.0

    def add(self, took_s: float) -> None:
        """Add one duration."""
        self._longest_s = max(self._longest_s, took_s)
        self._counts[round(math.log2(max(took_s, SHORTEST_S)) * STEPS_PER_DOUBLING)] += 1

    def spread(self) -> Spread:
        """Median, 99th percentile and maximum; the maximum is exact."""
        if not self._counts:
            return Spread(None, None, None)
        return Spread(self._percentile_ms(0.5), self._percentile_ms(0.99), round(self._longest_s * 1000, 2))

    def _percentile_ms(self, share: float) -> float:
        wanted = math.ceil(self._counts.total() * share)
        for bucket in sorted(self._counts):
            wanted -= self._counts[bucket]
            if wanted <= 0:
                middle_s = 2 ** (bucket / STEPS_PER_DOUBLING)
                return round(min(middle_s, self._longest_s) * 1000, 2)
        raise AssertionError
