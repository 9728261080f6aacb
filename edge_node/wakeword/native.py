"""SARVIS's own engine: openWakeWord's features and any openWakeWord head, on numpy and onnxruntime."""

import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import numpy as np

from contract.errors import SettingsError
from edge_node.gate import GateSettings
from edge_node.wakeword.detector import Frame
from edge_node.wakeword.features import EmbeddingStream
from edge_node.wakeword.incremental import EMBEDDING_SIZE, Floats
from edge_node.wakeword.runtime import Model, open_model

HEAD_EMBEDDINGS = 16
SHIPPED_MODEL = "ssabiseu_proto.onnx"
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
        self._embed = EmbeddingStream()
        self._window: deque[Floats] = deque(maxlen=HEAD_EMBEDDINGS)

    def feed(self, frame: Frame) -> float | None:
        """The score of the 1.96 s that end with this frame; see `Detector.feed`."""
        embedding = self._embed.feed(frame)
        if embedding is not None:
            self._window.append(embedding)
        if len(self._window) < HEAD_EMBEDDINGS:
            return None
        return self._head.score(np.stack(self._window))


class Head:
    """What tells the wake word from the last 16 embeddings.

    Raises SettingsError if `path` (default: the shipped prototype) is no readable head of the expected shape.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or shipped_model_path()
        self.name = self.path.stem
        self._session = _open_head(self.path)
        self.advice = _advice(self.path, self._session)
        self._input: str = self._session.get_inputs()[0].name

    def score(self, window: Floats) -> float:
        """0 to 1, of embeddings float32 (16, 96)."""
        return float(self._session.run(None, {self._input: window[np.newaxis]})[0][0, 0])


def shipped_model_path() -> Path:
    """The prototype that is installed with this package."""
    return Path(str(files("edge_node.wakeword") / "models" / SHIPPED_MODEL))


def _open_head(path: Path) -> Model:
    try:
        session = open_model(path)
    except Exception as error:  # onnxruntime has a dozen unrelated ones for a bad file
        raise SettingsError(f"{path}: cannot be read as a model; expected {_EXPECTED}") from error
    if not _is_head(session):
        found = ", ".join(str(tuple(part.shape)) for part in (*session.get_inputs(), *session.get_outputs()))
        raise SettingsError(f"{path}: has inputs and outputs {found}; expected {_EXPECTED}")
    return session


def _advice(path: Path, session: Model) -> Advice:
    try:
        return Advice.of(session.get_modelmeta().custom_metadata_map)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingsError(f"{path}: its metadata {ADVICE!r} is damaged; train or download it again") from error


def _is_head(session: Model) -> bool:
    """Whether the shapes fit; a size that the model leaves open, named or None, fits as well."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    return (
        len(inputs) == len(outputs) == 1
        and inputs[0].type == outputs[0].type == "tensor(float)"
        and _fits(inputs[0].shape, (1, HEAD_EMBEDDINGS, EMBEDDING_SIZE))
        and _fits(outputs[0].shape, (1, 1))
    )


def _fits(shape: list[int | str | None], wanted: tuple[int, ...]) -> bool:
    return len(shape) == len(wanted) and all(
        size == want or not isinstance(size, int) for size, want in zip(shape, wanted, strict=True)
    )
