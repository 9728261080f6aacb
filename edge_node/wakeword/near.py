"""Counts near-misses: scores of at least half of what a wake needs that led to none. No I/O, and no sound."""

from dataclasses import dataclass

ENDS_AFTER = 4
"""Frames below half of the threshold that end one: the scores of one word have gaps."""
LONGEST = 25
"""Frames; a longer one, as music makes them, counts again."""


@dataclass(frozen=True, slots=True)
class NearMisses:
    """The near-misses of one stream.

    Attributes:
        count: since its beginning.
        best: the highest score of the newest one; `threshold` is what it would have needed.
    """

    count: int = 0
    best: float = 0.0
    threshold: float = 0.0


class NearMissCounter:
    """Fed by one thread; another may read `found`, which is replaced as a whole."""

    def __init__(self) -> None:
        self.found = NearMisses()
        self._length = 0
        self._low = 0
        self._best = 0.0
        self._fired = False

    def feed(self, score: float | None, threshold: float, *, fired: bool) -> None:
        """The score of one frame, and whether it was a wake."""
        is_near = score is not None and score >= threshold / 2.0
        if not self._length and not is_near and not fired:
            return
        self._length += 1
        self._low = 0 if is_near else self._low + 1
        self._fired = self._fired or fired
        if score is not None:
            self._best = max(self._best, score)
        if self._low < ENDS_AFTER and self._length < LONGEST:
            return
        if not self._fired:
            self.found = NearMisses(self.found.count + 1, self._best, threshold)
        self._length = self._low = 0
        self._best, self._fired = 0.0, False
