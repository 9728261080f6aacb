"""How fast one client may give the broker work; decides only, waits nowhere."""

MAX_WAIT_S = 1.0
"""Shorter than the shortest keep-alive allows: who has to wait is not silent."""


class Pace:
    """A bucket of two seconds' messages: beyond it a client is read only as fast as its rate, so that it waits."""

    def __init__(self, per_s: float, now: float) -> None:
        self._per_s = per_s
        self._left = self._most = 2 * per_s
        self._at = now

    def spend(self, now: float, count: int = 1) -> float:
        """Take the work of so many messages; the seconds to wait before the next is read, which then waits again."""
        self._left = min(self._left + (now - self._at) * self._per_s, self._most) - count
        self._at = now
        return min(max(-self._left / self._per_s, 0.0), MAX_WAIT_S)
