"""The age of a wake when it arrives, by the bridge's monotonic clock and this machine's. No I/O.

The bridge's frames carry its `clock_ms`. Each answer was made after its request: that bounds the difference of the two
clocks, however slow the network was (docs/app-developers.md, "What is over does not ring").
"""

from collections.abc import Mapping
from math import inf
from typing import Any, TypeGuard

DRIFT_MS = 10
"""An older answer counts this much less with each newer one: clocks drift apart."""

_LARGEST = 2**53
"""The integers that JavaScript represents exactly."""


class Ages:
    """The ages of one connection's wakes; `now` is monotonic seconds of a clock that includes a machine's sleep."""

    def __init__(self) -> None:
        self._offset_ms = -inf

    def answered(self, asked_ms: object, message: Mapping[str, Any]) -> None:
        """This message answers a request of `asked_ms` by this machine's clock."""
        clock_ms = message.get("clock_ms")
        if _is_number(asked_ms) and _is_number(clock_ms):
            self._offset_ms = max(self._offset_ms - DRIFT_MS, asked_ms - clock_ms)

    def is_over(self, message: Mapping[str, Any], now: float) -> bool:
        """Whether this wake is older than its `ttl_ms`; always False for a bridge that sends no clock."""
        age_ms, clock_ms, ttl_ms = (message.get(key) for key in ("age_ms", "clock_ms", "ttl_ms"))
        if not (_is_number(age_ms) and _is_number(clock_ms) and _is_number(ttl_ms)) or self._offset_ms == -inf:
            return False
        return age_ms + clock_of(now) - clock_ms - self._offset_ms >= ttl_ms


def clock_of(now: float) -> int:
    """This machine's clock as it travels in `seq`: whole milliseconds."""
    return int(now * 1000)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST
