"""SARVIS's own engine: openWakeWord's features and any openWakeWord head, on numpy and onnxruntime.

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
from edge_node.wakeword.detector import Frame
from edge_node.wakeword.features import Embedder, FrameRows
from edge_node.wakeword.incremental import EMBEDDING_SIZE, Floats
from edge_node.wakeword.runtime import Model, has_shapes, open_model, shapes_of
from edge_node.wakeword.second_stage import FRAMES, SECOND, SecondStage
from edge_node.wakeword.verifier import SecondLook

HEAD_EMBEDDINGS = 16
SHIPPED_MODEL = "ssabiseu.onnx"
ADVICE = "sarvis.advice"
"""Name of the model's metadata that holds thresholds and patience, as JSON."""

_EXPECTED = f"a wake-word head in ONNX with one input (1, {HEAD_EMBEDDINGS}, {EMBEDDING_SIZE}) and one output (1, 1)"


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
    """A `Detector` for one audio stream: its first score comes with the 25th frame, after 2 s; raises as `Head`."""

    def __init__(self, model_path: Path | None = None) -> None:
        self._head = Head(model_path)
        self.model = self._head.name
        self.advice = self._head.advice
        self._rows = FrameRows()
        self._embed = Embedder()
        self._recent: deque[Floats] = deque(maxlen=FRAMES)
        self._window: deque[Floats] = deque(maxlen=HEAD_EMBEDDINGS)
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
        if len(self._window) < HEAD_EMBEDDINGS:
            return None
        window = np.stack(self._window)
        score = self._head.judge(window, self._recent)
        return score if self._look is None else self._look.fuse(score, window)


class Head:
    """What tells the wake word from the last 16 embeddings.

    Raises SettingsError if `path` (default: the shipped one) is no readable head of the expected shape.

    Attributes:
        second: what looks again at candidates; None if the model has none.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or shipped_model_path()
        self.name = self.path.stem
        self._session = _open_head(self.path)
        self.advice = _advice(self.path, self._session)
        self.second = _second(self.path, self._session)
        self._input: str = self._session.get_inputs()[0].name

    def score(self, window: Floats) -> float:
        """0 to 1, of embeddings float32 (16, 96); the head alone."""
        return float(self._session.run(None, {self._input: window[np.newaxis]})[0][0, 0])

    def judge(self, window: Floats, rows: Sequence[Floats] | Floats) -> float:
        """The whole model's score, 0 to 1, of those embeddings and the rows that `SecondStage.logit` takes."""
        score = self.score(window)
        return score if self.second is None else self.second.fuse(score, rows)

    def alone(self) -> "Head":
        """The same head without its second stage."""
        other = copy(self)
        other.second = None
        return other


def shipped_model_path() -> Path:
    """The model for 싸비스 that is installed with this package; its card stands beside it."""
    return Path(str(files("edge_node.wakeword") / "models" / SHIPPED_MODEL))


def _open_head(path: Path) -> Model:
    try:
        session = open_model(path)
    except Exception as error:  # onnxruntime has a dozen unrelated ones for a bad file
        raise SettingsError(f"{path}: cannot be read as a model; expected {_EXPECTED}") from error
    if not has_shapes(session, (1, HEAD_EMBEDDINGS, EMBEDDING_SIZE), (1, 1)):
        raise SettingsError(f"{path}: has inputs and outputs {shapes_of(session)}; expected {_EXPECTED}")
    return session


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
