"""Limits a log line to one a minute for each cause. No I/O; time is a parameter."""

from collections import OrderedDict
from collections.abc import Hashable

QUIET_S = 60.0
MOST = 30
"""At most this many different causes within that time: peers choose some of them and must not fill the log."""


class LogLimit:
    """Remembers what was logged within the last minute."""

    def __init__(self, quiet_s: float = QUIET_S, most: int = MOST) -> None:
        self._quiet_s = quiet_s
        self._most = most
        self._until: OrderedDict[Hashable, float] = OrderedDict()

    def is_due(self, what: Hashable, now: float) -> bool:
        """Whether to log this now; if so, it counts as logged. `now` is monotonic."""
        while self._until and next(iter(self._until.values())) <= now:
            self._until.popitem(last=False)
        if what in self._until or len(self._until) >= self._most:
            return False
        self._until[what] = now + self._quiet_s
        return True
