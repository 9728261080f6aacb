"""Decides when the next wake is made, and on which device. No I/O; time is given."""

import math
from random import Random


class Pace:
    """A Poisson process over the whole fleet: people do not take turns.

    The same seed gives the same intervals and devices. A rate of 0 makes no wake.
    """

    def __init__(self, rate_per_s: float, devices: int, seed: int, start: float) -> None:
        self._rate_per_s = rate_per_s
        self._devices = devices
        self._random = Random(seed)  # noqa: S311 - load is no secret
        self.next_at = start
        """The time of the next wake; infinite if there is none."""
        self._advance()

    def due(self, now: float) -> list[tuple[float, int]]:
        """The wakes that are due: the time of each, and the number of its device."""
        found = []
        while self.next_at <= now:
            found.append((self.next_at, self._random.randrange(self._devices)))
            self._advance()
        return found

    def _advance(self) -> None:
        self.next_at += self._random.expovariate(self._rate_per_s) if self._rate_per_s > 0 else math.inf
