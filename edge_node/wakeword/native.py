"""SARVIS's own engine: openWakeWord's features and any head on them that gives one score, on numpy and onnxruntime.

A model may bring a second stage, which listens again to what its head takes for the word.
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
from edge_node.audio.format import FRAME_S, Frame
from edge_node.wakeword.features import Embedder, FrameRows
from edge_node.wakeword.foreign_heads import HEAD_EMBEDDINGS as HEAD_EMBEDDINGS  # noqa: PLC0414 its users know it here
from edge_node.wakeword.foreign_heads import open_head
from edge_node.wakeword.gate import GateSettings
from edge_node.wakeword.hama_weights import RecogniserMissingError
from edge_node.wakeword.incremental import WARM_UP_FRAMES, Floats
from edge_node.wakeword.second_stage import FRAMES, SECOND, SecondStage
from edge_node.wakeword.verifier import SecondLook

SHIPPED_MODEL = "ssabiseu.onnx"
ADVICE = "sarvis.advice"
"""Name of the model's metadata that holds thresholds and patience, as JSON."""

_LEAD_S = 0.5


@dataclass(frozen=True, slots=True)
class Advice:
    """When a head's scores count, as its card says.

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
        head: what judges; `second_stage` says whether it may use one.
    """

    def __init__(self, model_path: Path | None = None, *, second_stage: bool = True) -> None:
        self.head = Head(model_path, second_stage=second_stage)
        self.model = self.head.name
        self.advice = self.head.advice
        self._judge = self.head
        self._rows = FrameRows(self.head.fit.scale)
        self._embed = Embedder()
        self._frames = 0
        self._sound: deque[Frame] = deque(maxlen=FRAMES)
        self._window: deque[Floats] = deque(maxlen=self.head.fit.embeddings)
        self._look: SecondLook | None = None

    def adopt(self, look: SecondLook | None, *, alone: bool) -> None:
        """Have candidates looked at again from the next frame on, or no more; from the thread that feeds.

        A voice was learned with the head `alone`: then the second stage is not asked.
        """
        self._look = look
        self._judge = self.head.alone() if alone else self.head

    def feed(self, frame: Frame) -> float | None:
        """The score of the 1.96 s that end with this frame; see `Detector.feed`."""
        rows = self._rows.feed(frame)
        if self.head.second is not None:
            self._sound.append(frame.copy())
        embedding = self._embed.feed(rows)
        if embedding is not None:
            self._window.append(embedding)
        self._frames += 1
        if self._frames <= self.head.lead_frames:
            return None
        window = np.stack(self._window)
        judged = self._judge.judge(window, self._sound)
        return judged if self._look is None else self._look.fuse(judged, window)


class Head:
    """What tells the wake word from the last embeddings.

    Raises SettingsError if `path` (default: the shipped one) is no readable head that fits.

    Attributes:
        fit: how many embeddings, and on whose scale.
        second: what listens again to candidates; None if the model has none, or it is not to be used or cannot be.
        second_missing: why the model's second stage cannot be used on this computer; None if it can, or has none.
        advice: when the scores of `judge` count.
    """

    def __init__(self, path: Path | None = None, *, second_stage: bool = True) -> None:
        self.path = path or shipped_model_path()
        self.name = self.path.stem
        self._session, self.fit = open_head(self.path)
        self.second: SecondStage | None = None
        self.second_missing: str | None = None
        notes = self._session.get_modelmeta().custom_metadata_map
        self.advice = self._own_advice = _advice(self.path, notes)
        if second_stage:
            try:
                self.second = _second(self.path, notes)
            except RecogniserMissingError as error:
                self.second_missing = str(error)
        if self.second is not None and self.second.advice:
            self.advice = _advice(self.path, {ADVICE: self.second.advice})
        self._input: str = self._session.get_inputs()[0].name

    @property
    def lead_frames(self) -> int:
        """The number of frames before the first that has a score."""
        return max(WARM_UP_FRAMES + self.fit.embeddings - 2, 0 if self.second is None else FRAMES - 1)

    @property
    def lead_in_s(self) -> float:
        """What must be heard before a word, so that all of it is judged."""
        return (self.lead_frames + 1) * FRAME_S + _LEAD_S

    def score(self, window: Floats) -> float:
        """0 to 1, of embeddings float32 (n, 96); the head alone."""
        return float(self._session.run(None, {self._input: window[np.newaxis]})[0].item())

    def judge(self, window: Floats, sound: Sequence[Frame] | Frame) -> float:
        """The whole model's score, 0 to 1, of those embeddings and the sound that `SecondStage.fuse` takes."""
        judged = self.score(window)
        return judged if self.second is None else self.second.fuse(judged, sound)

    def alone(self) -> "Head":
        """The same head without its second stage."""
        other = copy(self)
        other.second = None
        other.advice = self._own_advice
        return other


def shipped_model_path() -> Path:
    """The model for 싸비스 that is installed with this package; its card stands beside it."""
    return Path(str(files("edge_node.wakeword") / "models" / SHIPPED_MODEL))


def _advice(path: Path, notes: Mapping[str, str]) -> Advice:
    try:
        return Advice.of(notes)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingsError(f"{path}: its metadata {ADVICE!r} is damaged; train or download it again") from error


def _second(path: Path, notes: Mapping[str, str]) -> SecondStage | None:
    try:
        return SecondStage.of(notes)
    except ValueError as error:
        message = f"{path}: its metadata {SECOND!r} is damaged: {error}; train or download it again"
        raise SettingsError(message) from error
