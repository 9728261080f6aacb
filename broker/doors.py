"""How many may stand in the door: counts connections, decides without I/O."""

from collections import Counter

QUIET_S = 60.0


class Doors:
    """Bounds all connections, and those of one address that have not said who they are."""

    def __init__(self, max_connections: int, max_unnamed: int) -> None:
        self._max_connections = max_connections
        self._max_unnamed = max_unnamed
        self._inside = 0
        self._unnamed: Counter[str] = Counter()
        self._refused = 0
        self._quiet_until = float("-inf")

    def enter(self, host: str) -> bool:
        """Whether there is room; a connection that entered must `leave`."""
        if self._inside >= self._max_connections or self._unnamed[host] >= self._max_unnamed:
            self._refused += 1
            return False
        self._inside += 1
        self._unnamed[host] += 1
        return True

    def named(self, host: str) -> None:
        """A connection has shown who it is, or is leaving without."""
        self._unnamed[host] -= 1
        if self._unnamed[host] <= 0:
            del self._unnamed[host]

    def leave(self) -> None:
        """A connection has ended."""
        self._inside -= 1

    def report(self, now: float) -> int:
        """How many were refused, once a minute; otherwise 0."""
        if not self._refused or now < self._quiet_until:
            return 0
        self._quiet_until = now + QUIET_S
        refused, self._refused = self._refused, 0
        return refused
