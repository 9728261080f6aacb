"""Admits new apps while the bridge keeps up with them; tells the others when to come again. No I/O."""

import math
from collections.abc import Callable
from dataclasses import dataclass

WAITING_ALWAYS = 500
"""This many may wait for the ledger, however slow it is."""

WORTH_S = 2.0
"""A newcomer waits at most this long for those before."""

REMEMBERED_S = 2.0
"""How fast the measured rate follows: after this much time at work an older rate counts a third."""

SLOWEST_PER_S = 50.0
"""The rate before anything was measured, and the lowest that is believed: a ledger that stands may go on at once."""

LOOK_S = 2.0
"""While the ledger is at work the rate is measured this often: over several of its transactions, whose apps have their
answers together.
"""

CLOSES_PER_S = 500
"""Browsers hide the status of a refused handshake: this many a second are accepted, and closed with the wait."""

LONGEST_S = 60.0


@dataclass(frozen=True, slots=True)
class Refused:
    """Come again after `retry_s`.

    Attributes:
    says_so: the handshake is accepted and closed with the wait, for a browser, which cannot read Retry-After.
    """

    retry_s: float
    says_so: bool


class Gate:
    """Counts who waits for the ledger. `now` is monotonic.

    Args:
    max_sockets: how many may be open.
    random: for the jitter of the wait.
    """

    def __init__(self, max_sockets: int, random: Callable[[], float]) -> None:
        self._max_sockets = max_sockets
        self._random = random
        self._rate: float | None = None
        self._waiting = 0
        self._answered = 0
        self._since = 0.0
        self._second = 0.0
        self._closed = 0

    def came(self, now: float) -> None:
        """An app waits for the ledger."""
        if not self._waiting:
            self._since, self._answered = now, 0
        self._waiting += 1

    def answered(self, now: float) -> None:
        """One that waited has its answer; call it once for each `came`."""
        self._waiting -= 1
        self._answered += 1
        took_s = now - self._since
        if self._waiting and took_s < LOOK_S:
            return
        rate = self._answered / max(took_s, 1e-3)
        share = 1 if self._rate is None else 1 - math.exp(-took_s / REMEMBERED_S)
        self._rate = self.rate + share * (rate - self.rate)
        self._since, self._answered = now, 0

    @property
    def rate(self) -> float:
        """How many connects a second the ledger takes up while it is at work."""
        return SLOWEST_PER_S if self._rate is None else max(self._rate, SLOWEST_PER_S)

    def has_room(self, sockets: int) -> bool:
        """Whether a newcomer may connect beside this number of open sockets."""
        return sockets < self._max_sockets and self._waiting <= max(WAITING_ALWAYS, WORTH_S * self.rate)

    def refusal(self, now: float, *, browser: bool) -> Refused:
        """For a newcomer for whom there is no room."""
        # Those who are sent away together come back spread over as long again.
        retry_s = min(max(self._waiting / self.rate, 1.0), LONGEST_S) * (1 + self._random())
        return Refused(retry_s, browser and self._may_close(now))

    def _may_close(self, now: float) -> bool:
        if now >= self._second + 1.0:
            self._second, self._closed = now, 0
        self._closed += 1
        return self._closed <= CLOSES_PER_S
