"""How fast one client may publish; decides only, waits nowhere."""


class Pace:
    """A bucket of two seconds' messages: beyond it a client is read only as fast as its rate, so that it waits."""

    def __init__(self, per_s: float, now: float) -> None:
        self._per_s = per_s
        self._left = self._most = 2 * per_s
        self._at = now

    def spend(self, now: float) -> float:
        """Take one message; the seconds to wait before the next is read."""
        self._left = min(self._left + (now - self._at) * self._per_s, self._most) - 1
        self._at = now
        return max(-self._left / self._per_s, 0.0)
