"""The statistics of many voices from which a verifier starts.

A verifier is a linear discriminant. Most of it cannot be known from a dozen words of one person: how much one person's
words vary, and where near-misses lie beside the word. `sarvis wakeword grounds` takes that from voices that teach.
"""

from dataclasses import dataclass, fields
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from contract.errors import SettingsError
from edge_node.wakeword.incremental import Floats, Numbers
from edge_node.wakeword.native import shipped_model_path
from edge_node.wakeword.verifier import Verifier
from edge_node.wakeword.voice import model_sha256
from infra.readable import is_there, read_bytes

ASKED_FROM = 0.02
"""Below that a verifier has nothing to say: no candidate."""
BEST_FRAMES = 4
"""How many frames around a word have its sound in their window; those with the best scores stand for the word."""

# Chosen on voices that choose (`dev`): docs/decisions/0010-learning-a-voice.md.
_PRIOR_WORDS = 4.0
_SHRINKAGE = 0.5
_PRIOR_OTHERS = 5.0
_MOST_OF_OTHERS = 0.25

_HALVES = ("axes", "life")


@dataclass(frozen=True, slots=True)
class Grounds:
    """Statistics for one model, along D axes.

    Attributes:
        sha256: of the model's file.
        layers: names of the values of the model that are seen before the window: of `Insight`, n numbers in all.
        mean: of what is seen (n,).
        axes: of most variance, scaled to variance 1 (n, D).
        word: where words of many voices lie (D,).
        near: where near-misses of many voices lie, and a little of where whatever else is said and heard does (D,).
        daily: where whatever else is said and heard lies (D,).
        within: covariance of a voice's words, of near-misses and of whatever else, averaged (D, D).
        offset: taken off, so that a threshold costs as many false accepts as with the head alone.
        life: the highest logits that recordings without the word reached, with verifiers of some voices, falling (m,).
        hours: how long the recordings were, times how many voices there were.
    """

    sha256: str
    layers: list[str]
    mean: Numbers
    axes: Numbers
    word: Numbers
    near: Numbers
    daily: Numbers
    within: Numbers
    offset: float
    life: Numbers
    hours: float

    def along(self, seen: Floats | npt.NDArray[np.float16]) -> Numbers:
        """What `Insight` gives (m, n), along the axes: (m, D)."""
        found: Numbers = (seen.astype(np.float64) - self.mean) @ self.axes
        return found

    @property
    def mark(self) -> str:
        """Of these axes and no others: what was seen along others cannot be judged with these."""
        return sha256(self.axes.tobytes() + self.mean.tobytes()).hexdigest()[:16]

    def verifier(self, line: tuple[Numbers, float]) -> Verifier:
        """Of a `line`, for what `Insight` sees."""
        weights, bias = line
        seen = self.axes @ weights
        return Verifier.of(ASKED_FROM, self.layers, seen, bias - float(self.mean @ seen))

    def line(self, words: Numbers, others: Numbers | None = None) -> tuple[Numbers, float]:
        """Weights (D,) and bias for people whose words lie here (any number, D), and who took others for none.

        Words of other people pull at it, the less the more words there are. The others, hard negatives (any number, D),
        pull the near-misses to where they are, but never so far that near-misses of all the world no longer count; what
        recordings hold is then as likely taken as without them.
        """
        own = (words.sum(axis=0) + _PRIOR_WORDS * self.word) / (len(words) + _PRIOR_WORDS)
        weights, bias = self._between(own, self.near)
        if others is None or not len(others):
            return weights, bias
        share = min(len(others) / (len(others) + _PRIOR_OTHERS), _MOST_OF_OTHERS)
        told, _ = self._between(own, self.near + share * (others.mean(axis=0) - self.near))
        return told, bias + float((weights - told) @ self.daily)

    def _between(self, own: Numbers, near: Numbers) -> tuple[Numbers, float]:
        size = len(self.within)
        spread = self.within + _SHRINKAGE * np.trace(self.within) / size * np.eye(size)
        weights = np.linalg.solve(spread, own - near)
        return weights, float(-0.5 * (own + near) @ weights - self.offset)

    def false_accepts(self, threshold: float) -> float:
        """To be expected in an hour of recordings at this threshold, 0 to 1, exclusive."""
        return float((self.life >= np.log(threshold / (1.0 - threshold))).sum()) / self.hours

    def save(self, path: Path) -> None:
        """Half precision does for what is large; raises OSError."""
        kept: dict[str, Any] = {}
        for one in fields(self):
            value = getattr(self, one.name)
            kept[one.name] = (
                np.array(value)
                if one.name in {"sha256", "layers"}
                else np.asarray(value, np.float16 if one.name in _HALVES else np.float32)
            )
        part = path.with_suffix(".part.npz")
        np.savez_compressed(part, **kept)
        part.replace(path)

    @classmethod
    def load(cls, model: Path | None = None) -> "Grounds | None":
        """Those beside a model, by default the shipped one; None if there are none; SettingsError as `read`."""
        path = grounds_path(model)
        return cls.read(path, model) if is_there(path) else None

    @classmethod
    def read(cls, path: Path, model: Path | None = None) -> "Grounds":
        """From a file, for a model; SettingsError if it is damaged or another model's."""
        damaged = SettingsError(f"{path}: is damaged; make it again with `sarvis wakeword grounds`")
        try:
            content = read_bytes(path)
        except OSError as error:
            raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
        try:
            # From memory: of a damaged file numpy would leave the handle open.
            with np.load(BytesIO(content), allow_pickle=False) as kept:
                found: dict[str, Any] = {name: kept[name] for name in kept.files}
            sha256, layers = str(found.pop("sha256")), [str(one) for one in found.pop("layers")]
            numbers: dict[str, Any] = {name: value.astype(np.float64) for name, value in found.items()}
            numbers |= {name: float(numbers[name]) for name in ("offset", "hours")}
            grounds = cls(sha256=sha256, layers=layers, **numbers)
        except Exception as error:  # of zip files, numpy and this class: a dozen unrelated ones
            raise damaged from error
        if not grounds.fits():
            raise damaged
        if grounds.sha256 != model_sha256(model):
            raise SettingsError(f"{path}: is of another model; make it again with `sarvis wakeword grounds`")
        return grounds

    def fits(self) -> bool:
        """Whether all shapes agree and all numbers are finite."""
        size = self.axes.shape[-1]
        numbers = (
            self.mean,
            self.axes,
            self.within,
            self.word,
            self.near,
            self.daily,
            self.life,
            np.array(self.offset),
        )
        return (
            self.axes.shape == (len(self.mean), size)
            and self.within.shape == (size, size)
            and self.word.shape == self.near.shape == self.daily.shape == (size,)
            and self.life.ndim == 1
            and self.hours > 0.0
            and all(bool(np.isfinite(one).all()) for one in numbers)
        )


def grounds_path(model: Path | None = None) -> Path:
    """Beside the model, as its card is."""
    return (model or shipped_model_path()).with_suffix(".grounds.npz")
