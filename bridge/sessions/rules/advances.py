"""Whether the service stood still, by the row of the service time that several bridges advance. No I/O."""

STILL_S = 3.0
"""Living bridges advance the row every second."""
ADVANCES = 2
"""So often the row must have advanced before a bridge logs a user out for silence: apps had time to come back."""


class Advances:
    """What one bridge has seen of the row; `now` is monotonic."""

    def __init__(self, now: float) -> None:
        self._seconds: float | None = None
        self._since = now
        self._count = 0

    def seen(self, seconds: float, now: float) -> None:
        """The row has this value, by whichever bridge."""
        if self._seconds is not None and seconds > self._seconds:
            self._count = 1 if self._is_long(now) else self._count + 1
        if self._seconds is None or seconds > self._seconds:
            self._seconds, self._since = seconds, now

    def stood_still(self, seconds: float, now: float) -> bool:
        """Whether no bridge has advanced the row, which has this value, for so long that apps could not beat."""
        return self._seconds == seconds and self._is_long(now)

    @property
    def may_end(self) -> bool:
        """Whether users whose deadline is over may be logged out."""
        return self._count >= ADVANCES

    def _is_long(self, now: float) -> bool:
        return now - self._since >= STILL_S
