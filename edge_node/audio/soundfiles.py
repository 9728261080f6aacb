"""Recordings in files, as samples."""

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from contract.errors import SettingsError
from edge_node.audio.format import SAMPLE_RATE_HZ
from edge_node.audio.formats import HEAD_BYTES, conversion, foreign
from edge_node.audio.resampling import rounded
from edge_node.audio.stream import SoundStream
from infra.readable import read_bytes

Sound = npt.NDArray[np.float32]

_CANCELS = 0.3
"""Unrelated channels give 1, similar channels more."""


def read_wav(path: Path) -> npt.NDArray[np.int16]:
    """A whole file as int16 mono at 16 kHz, the mean of its channels; 16-bit mono at 16 kHz is unchanged.

    SettingsError with a conversion command if it is not such a file, or if its channels cancel each other.
    """
    channels, rate_hz = _read(path)
    mono = channels.mean(axis=1)
    if not len(mono) or not np.isfinite(mono).all():
        raise SettingsError(f"{path}: has no usable audio")
    if _cancel(channels, mono):
        raise SettingsError(
            f"{path}: its channels cancel each other (one is the other upside down), and together they are silence; "
            f"take one of them: {conversion(path, one_channel=True)}"
        )
    if rate_hz != SAMPLE_RATE_HZ:
        mono = soxr.resample(mono, rate_hz, SAMPLE_RATE_HZ)
    return rounded(mono)


def _read(path: Path) -> tuple[Sound, int]:
    """Samples (n, channels) from -1 to 1, and their rate."""
    try:
        # From memory, because soundfile judges an open file by its name's ending.
        content = read_bytes(path)
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        channels, rate_hz = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        name = foreign(content[:HEAD_BYTES])
        what = f"is {name}, which SARVIS does not read" if name else f"is not a WAV file: {error.error_string}"
        raise SettingsError(f"{path}: {what}; convert it with: {conversion(path)}") from error
    if not len(channels):
        return _unfinished(content, channels, rate_hz)
    return channels, rate_hz


def _unfinished(content: bytes, nothing: Sound, rate_hz: int) -> tuple[Sound, int]:
    """A recorder that wrote into a pipe, or was stopped, leaves a header with 0 bytes."""
    if content[:4] != b"RIFF":
        return nothing, rate_hz
    try:
        stream = SoundStream()
        samples = np.concatenate((stream.feed(content), stream.finish()))
    except SettingsError:
        return nothing, rate_hz
    return (samples.astype(np.float32) / 32768.0)[:, np.newaxis], rate_hz


def _cancel(channels: Sound, mono: Sound) -> bool:
    count = channels.shape[1]
    apart = float(np.sqrt(np.square(channels, dtype=np.float64).mean(axis=0).sum())) / count
    together = float(np.sqrt(np.square(mono, dtype=np.float64).mean()))
    return bool(count > 1 and apart > 0.0 and together < _CANCELS * apart)
