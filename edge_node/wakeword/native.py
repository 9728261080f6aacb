"""SARVIS's own engine: openWakeWord's features and any openWakeWord head, on numpy and onnxruntime."""

from collections import deque
from importlib.resources import files
from pathlib import Path

import numpy as np

from contract.errors import SettingsError
from edge_node.wakeword.detector import Frame
from edge_node.wakeword.features import EmbeddingStream
from edge_node.wakeword.incremental import EMBEDDING_SIZE, Floats
from edge_node.wakeword.runtime import Model, open_model

HEAD_EMBEDDINGS = 16
SHIPPED_MODEL = "ssabiseu_proto.onnx"

_EXPECTED = f"a wake-word head in ONNX with one input (1, {HEAD_EMBEDDINGS}, {EMBEDDING_SIZE}) and one output (1, 1)"


class NativeDetector:
    """A `Detector` for one audio stream: its first score comes with the 25th frame, after 2 s; raises as `Head`."""

    def __init__(self, model_path: Path | None = None) -> None:
        self._head = Head(model_path)
        self.model = self._head.name
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
