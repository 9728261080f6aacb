"""What is told once a minute, however often it happens. No I/O; time is a parameter."""

from collections import OrderedDict
from collections.abc import Hashable

QUIET_S = 60.0
MOST = 30
"""Different ones within that time; what peers choose themselves must not fill a log."""


class Rarely:
    """Remembers what was told within the last minute."""

    def __init__(self, quiet_s: float = QUIET_S, most: int = MOST) -> None:
        self._quiet_s = quiet_s
        self._most = most
        self._until: OrderedDict[Hashable, float] = OrderedDict()

    def is_due(self, what: Hashable, now: float) -> bool:
        """Is this to be told? Then it counts as told. `now` is monotonic."""
        while self._until and next(iter(self._until.values())) <= now:
            self._until.popitem(last=False)
        if what in self._until or len(self._until) >= self._most:
            return False
        self._until[what] = now + self._quiet_s
        return True
