"""What is kept of a sound for a verifier: numbers of the head, no sound."""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, Field

from edge_node.audio.format import FRAME_SAMPLES, SAMPLE_RATE_HZ
from edge_node.wakeword.incremental import Floats, Numbers

Line: TypeAlias = tuple[Numbers, float]
"""A verifier along the axes of its grounds: weights (D,) and bias."""

_PER_SECOND = SAMPLE_RATE_HZ // FRAME_SAMPLES
_MOST_FRAMES = 24 * 3600 * _PER_SECOND


def _is_halves(text: str) -> str:
    """ValueError unless it is base64 of finite numbers in half precision, the lower byte first."""
    try:
        found = np.frombuffer(base64.b64decode(text, validate=True), "<f2")
    except (binascii.Error, ValueError) as error:
        raise ValueError("is no base64 of float16") from error
    if not np.isfinite(found).all():
        raise ValueError("is not finite")
    return text


_Halves: TypeAlias = Annotated[str, AfterValidator(_is_halves)]


@dataclass(frozen=True, slots=True)
class Impression:
    """Of one sound; only frames that a verifier is asked about, all others count as 0.

    Attributes:
        frames: how long it is.
        at: numbers of these frames.
        logits: the head's at each.
        seen: what was seen at each along the axes of the grounds: base64 of float16 (frames, D).
        mean: the same where the word is, on average, in all forms that were learned from (D,), empty if nowhere.
    """

    frames: Annotated[int, Field(ge=0, le=_MOST_FRAMES)]
    at: list[int]
    logits: list[float]
    seen: _Halves
    mean: _Halves

    def __post_init__(self) -> None:
        """ValueError if numbers are missing, or there are too many."""
        axes, rest = divmod(len(self._seen()), max(len(self.at), 1))
        if len(self.logits) != len(self.at) or rest or (axes > 0) != (len(self.at) > 0):
            raise ValueError("numbers are missing")
        if any(not 0 <= frame < self.frames for frame in self.at):
            raise ValueError("a frame is not in it")

    @classmethod
    def of(cls, frames: int, at: Sequence[int], logits: Sequence[float], seen: Numbers, where: Numbers) -> "Impression":
        """From numbers: what is seen at each frame of `at` (m, D), and where the word is (any number, D)."""
        mean = where.mean(axis=0) if len(where) else where.ravel()
        return cls(frames, list(at), [round(one, 4) for one in logits], _kept(seen), _kept(mean))

    def where(self) -> Numbers:
        """Where the word is (1, D), or nowhere (0, 0)."""
        mean = np.frombuffer(base64.b64decode(self.mean), "<f2").astype(np.float64)
        return mean[np.newaxis] if len(mean) else np.empty((0, 0))

    def peaks(self, line: Line, patience: int) -> list[float]:
        """As `peaks` of its scores, with a verifier."""
        scores = np.zeros(self.frames)
        if self.at:
            seen = self._seen().reshape(len(self.at), -1)
            scores[self.at] = 0.5 + 0.5 * np.tanh(0.5 * (np.array(self.logits) + seen @ line[0] + line[1]))
        return peaks(scores, patience)

    def peak(self, line: Line, patience: int) -> float:
        """The highest of its `peaks`."""
        return max(self.peaks(line, patience), default=0.0)

    def _seen(self) -> Numbers:
        return np.frombuffer(base64.b64decode(self.seen), "<f2").astype(np.float64)


def peaks(scores: Floats | Numbers, patience: int) -> list[float]:
    """The highest score of each second that the gate would hear: of `patience` frames in a row the lowest counts."""
    if len(scores) < patience:
        return []
    runs: npt.NDArray[np.floating] = np.lib.stride_tricks.sliding_window_view(scores, patience).min(axis=1)
    return [round(float(runs[at : at + _PER_SECOND].max()), 4) for at in range(0, len(runs), _PER_SECOND)]


def where(impressions: Sequence[Impression], axes: int) -> Numbers:
    """Where the words of these are, one row for each that is anywhere (any number, `axes`)."""
    found = [one.where() for one in impressions if one.mean]
    return np.concatenate(found) if found else np.empty((0, axes))


def _kept(numbers: Numbers) -> str:
    return base64.b64encode(numbers.astype("<f2").tobytes()).decode("ascii")
