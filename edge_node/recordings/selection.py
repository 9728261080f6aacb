"""Selects sound worth storing: triggers and near-misses; without I/O."""

from collections import deque
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from edge_node.audio.format import Frame

Kind: TypeAlias = Literal["trigger", "near"]

BEFORE_FRAMES = 27
"""Before the frame of the highest score: the engine's window, and a little more."""
AFTER_FRAMES = 4

_LONGEST_RUN = 25


@dataclass(frozen=True, slots=True)
class Selection:
    """Sound that got a high score.

    Attributes:
    kind: whether it was taken for the word.
    score: the highest of its frames.
    samples: int16 (n,), mono at 16 kHz, about 2.5 s that end shortly after that frame.
    """

    kind: Kind
    score: float
    samples: npt.NDArray[np.int16]


class Selector:
    """Keeps the last seconds of one stream, nothing older."""

    def __init__(self) -> None:
        self._recent: deque[Frame] = deque(maxlen=BEFORE_FRAMES + _LONGEST_RUN + AFTER_FRAMES + 1)
        self._run = 0
        self._since_near = 0
        self._since_best = 0
        self._best = 0.0
        self._fired = False

    def feed(self, frame: Frame, score: float | None, *, fired: bool, threshold: float) -> Selection | None:
        """The selection that ends with this frame: adjacent scores of at least half the threshold, and the answer."""
        self._recent.append(frame)
        near = score is not None and score >= threshold / 2.0
        if not self._run and not near and not fired:
            return None
        self._run += 1
        self._fired = self._fired or fired
        self._since_best += 1
        self._since_near = 0 if near else self._since_near + 1
        if score is not None and score > self._best:
            self._best, self._since_best = score, 0
        if self._since_near < AFTER_FRAMES and self._run < _LONGEST_RUN + AFTER_FRAMES:
            return None
        return self._found()

    def _found(self) -> Selection:
        end = len(self._recent) - max(self._since_best - AFTER_FRAMES, 0)
        frames = list(self._recent)[max(end - BEFORE_FRAMES - AFTER_FRAMES - 1, 0) : end]
        found = Selection("trigger" if self._fired else "near", self._best, np.concatenate(frames))
        self._run = self._since_near = self._since_best = 0
        self._best, self._fired = 0.0, False
        return found
