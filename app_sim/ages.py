"""How old a wake is when it arrives, by the bridge's steady clock and this machine's. No I/O.

The bridge's frames carry its `clock_ms`. Each answer was made after it was asked for: that bounds how far the two
clocks are apart, whatever the network did (docs/app-developers.md, "What is over does not ring").
"""

from collections.abc import Mapping
from math import inf
from typing import Any, TypeGuard

DRIFT_MS = 10
"""By so much an older answer counts less with each newer one: clocks run apart."""

_LARGEST = 2**53
"""What JavaScript counts exactly."""


class Ages:
    """Of one connection; `now` is monotonic seconds of a clock that counts a machine's sleep."""

    def __init__(self) -> None:
        self._offset_ms = -inf

    def answered(self, asked_ms: object, message: Mapping[str, Any]) -> None:
        """This message answers what was asked at `asked_ms` of this machine's clock."""
        clock_ms = message.get("clock_ms")
        if _is_number(asked_ms) and _is_number(clock_ms):
            self._offset_ms = max(self._offset_ms - DRIFT_MS, asked_ms - clock_ms)

    def is_over(self, message: Mapping[str, Any], now: float) -> bool:
        """Has this wake outlived its `ttl_ms`? Never so of a bridge that tells no clock."""
        age_ms, clock_ms, ttl_ms = (message.get(key) for key in ("age_ms", "clock_ms", "ttl_ms"))
        if not (_is_number(age_ms) and _is_number(clock_ms) and _is_number(ttl_ms)) or self._offset_ms == -inf:
            return False
        return age_ms + clock_of(now) - clock_ms - self._offset_ms >= ttl_ms


def clock_of(now: float) -> int:
    """This machine's clock as it travels in `seq`: whole milliseconds."""
    return int(now * 1000)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST
