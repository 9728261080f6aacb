"""Limits how fast one client is read; decides only, does not wait."""

MAX_WAIT_S = 1.0
"""Shorter than the shortest keep-alive allows: a waiting client does not count as silent."""


class RateLimit:
    """A bucket of two seconds' messages: beyond it a client is read only at its rate, so that it waits."""

    __slots__ = ("_at", "_left", "_most", "_per_s")

    def __init__(self, per_s: float, now: float) -> None:
        self._per_s = per_s
        self._left = self._most = 2 * per_s
        self._at = now

    def spend(self, now: float, count: int = 1) -> float:
        """Take the work of this many messages; returns the seconds to wait before the next is read."""
        self._left = min(self._left + (now - self._at) * self._per_s, self._most) - count
        self._at = now
        return min(max(-self._left / self._per_s, 0.0), MAX_WAIT_S)
