"""Scores of a whole model, head and second stage, on what is in the cache; and what the gate makes of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge_node.audio.format import FRAME_S
from edge_node.wakeword.batch import scores_of
from edge_node.wakeword.gate import Gate, GateSettings

__all__ = ["Hour", "Scores", "false_accepts", "fires", "reached", "scores_of"]

Scores = npt.NDArray[np.float32]


def fires(scores: Scores, settings: GateSettings) -> list[int]:
    """The frames at which the production gate fires on a stream's scores; NaN is no score."""
    gate = Gate(settings)
    found = []
    for frame in _worth_feeding(scores, settings.threshold):
        score = float(scores[frame])
        if gate.feed(None if np.isnan(score) else score, (frame + 1) * FRAME_S) is not None:
            found.append(frame)
    return found


def _worth_feeding(scores: Scores, threshold: float) -> Iterator[int]:
    """Frames that can matter to the gate: those that count, and the low ones next to them, which end a run or re-arm.

    Between two triggers at least one low frame is fed, as the gate asks for.
    """
    counts = np.nan_to_num(scores, nan=0.0) >= threshold / 2
    matters = counts.copy()
    matters[1:] |= counts[:-1]
    yield from np.flatnonzero(matters).tolist()


def reached(scores: npt.NDArray[np.float32], patience: int) -> npt.NDArray[np.float32]:
    """Per stream of (streams, frames), the highest threshold at which it would fire once: (streams,)."""
    known = np.nan_to_num(scores, nan=-1.0)
    runs = np.lib.stride_tricks.sliding_window_view(known, patience, axis=1).min(-1)
    best: npt.NDArray[np.float32] = runs.max(1)
    return best


@dataclass(frozen=True, slots=True)
class Hour:
    """A package of recordings as one stream."""

    name: str
    scores: Scores

    @property
    def hours(self) -> float:
        """Of audio."""
        return len(self.scores) * FRAME_S / 3600


def false_accepts(hours: Sequence[Hour], settings: GateSettings) -> int:
    """Over all packages."""
    return sum(len(fires(hour.scores, settings)) for hour in hours)
