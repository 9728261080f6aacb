"""SARVIS's own engine: openWakeWord's features and any head on them that gives one score, on numpy and onnxruntime.

A head that `sarvis wakeword train` made may bring a second stage.
"""

import json
from collections import deque
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import numpy as np

from contract.errors import SettingsError
from edge_node.gate import GateSettings
from edge_node.wakeword.detector import FRAME_S, Frame
from edge_node.wakeword.features import Embedder, FrameRows
from edge_node.wakeword.foreign_heads import HEAD_EMBEDDINGS as HEAD_EMBEDDINGS  # noqa: PLC0414 its users know it here
from edge_node.wakeword.foreign_heads import open_head
from edge_node.wakeword.incremental import WARM_UP_FRAMES, Floats
from edge_node.wakeword.runtime import Model
from edge_node.wakeword.second_stage import FRAMES, SECOND, SecondStage
from edge_node.wakeword.verifier import SecondLook

SHIPPED_MODEL = "ssabiseu.onnx"
ADVICE = "sarvis.advice"
"""Name of the model's metadata that holds thresholds and patience, as JSON."""

_LEAD_S = 0.5


@dataclass(frozen=True, slots=True)
class Advice:
    """When a head's scores count, as whoever trained and measured it says.

    Attributes:
        thresholds: lowest score that counts, by strictness.
        patience: how many frames in a row must reach it.
    """

    thresholds: Mapping[str, float] = field(
        default_factory=lambda: {"lenient": 0.3, "normal": 0.5, "strict": 0.7}  # where openWakeWord's heads are used
    )
    patience: int = 2

    def gate(
        self,
        strictness: str = "normal",
        threshold: float | None = None,
        patience: int | None = None,
        refractory_s: float = 2.0,
    ) -> GateSettings:
        """Settings of the gate: what is advised, unless told otherwise; raises as `GateSettings`."""
        return GateSettings(
            threshold=self.thresholds[strictness] if threshold is None else threshold,
            patience=self.patience if patience is None else patience,
            refractory_s=refractory_s,
        )

    @classmethod
    def of(cls, notes: Mapping[str, str]) -> "Advice":
        """From the metadata of a model that `sarvis wakeword train` made; ValueError if it is damaged."""
        if ADVICE not in notes:
            return cls()
        found = json.loads(notes[ADVICE])
        thresholds = {name: float(found["thresholds"][name]) for name in ("lenient", "normal", "strict")}
        return cls(thresholds, int(found["patience"]))


class NativeDetector:
    """A `Detector` for one audio stream; raises as `Head`.

    With a head for 16 embeddings its first score comes with the 25th frame, after 2 s.

    Attributes:
        head: what judges.
    """

    def __init__(self, model_path: Path | None = None) -> None:
        self.head = Head(model_path)
        self.model = self.head.name
        self.advice = self.head.advice
        self._rows = FrameRows(self.head.fit.scale)
        self._embed = Embedder()
        self._recent: deque[Floats] = deque(maxlen=FRAMES)
        self._window: deque[Floats] = deque(maxlen=self.head.fit.embeddings)
        self._look: SecondLook | None = None

    def adopt(self, look: SecondLook | None) -> None:
        """Have candidates looked at again from the next frame on, or no more; from the thread that feeds."""
        self._look = look

    def feed(self, frame: Frame) -> float | None:
        """The score of the 1.96 s that end with this frame; see `Detector.feed`."""
        rows = self._rows.feed(frame)
        self._recent.append(rows)
        embedding = self._embed.feed(rows)
        if embedding is not None:
            self._window.append(embedding)
        if len(self._window) < self.head.fit.embeddings:
            return None
        window = np.stack(self._window)
        judged = self.head.judge(window, self._recent)
        return judged if self._look is None else self._look.fuse(judged, window)


class Head:
    """What tells the wake word from the last embeddings.

    Raises SettingsError if `path` (default: the shipped one) is no readable head that fits.

    Attributes:
        fit: how many embeddings, and on whose scale.
        second: what looks again at candidates; None if the model has none.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or shipped_model_path()
        self.name = self.path.stem
        self._session, self.fit = open_head(self.path)
        self.advice = _advice(self.path, self._session)
        self.second = _second(self.path, self._session)
        self._input: str = self._session.get_inputs()[0].name

    @property
    def lead_frames(self) -> int:
        """So many frames come before the first that has a score."""
        return WARM_UP_FRAMES + self.fit.embeddings - 2

    @property
    def lead_in_s(self) -> float:
        """What must be heard before a word, so that all of it is judged."""
        return (self.lead_frames + 1) * FRAME_S + _LEAD_S

    def score(self, window: Floats) -> float:
        """0 to 1, of embeddings float32 (n, 96); the head alone."""
        return float(self._session.run(None, {self._input: window[np.newaxis]})[0].item())

    def judge(self, window: Floats, rows: Sequence[Floats] | Floats) -> float:
        """The whole model's score, 0 to 1, of those embeddings and the rows that `SecondStage.logit` takes."""
        judged = self.score(window)
        return judged if self.second is None else self.second.fuse(judged, rows)

    def alone(self) -> "Head":
        """The same head without its second stage."""
        other = copy(self)
        other.second = None
        return other


def shipped_model_path() -> Path:
    """The model for 싸비스 that is installed with this package; its card stands beside it."""
    return Path(str(files("edge_node.wakeword") / "models" / SHIPPED_MODEL))


def _advice(path: Path, session: Model) -> Advice:
    try:
        return Advice.of(session.get_modelmeta().custom_metadata_map)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingsError(f"{path}: its metadata {ADVICE!r} is damaged; train or download it again") from error


def _second(path: Path, session: Model) -> SecondStage | None:
    try:
        return SecondStage.of(session.get_modelmeta().custom_metadata_map)
    except ValueError as error:
        message = f"{path}: its metadata {SECOND!r} is damaged: {error}; train or download it again"
        raise SettingsError(message) from error
