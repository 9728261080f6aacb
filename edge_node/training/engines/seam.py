"""What a synthesiser is asked and what it gives."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import soxr

from contract.errors import SarvisError
from edge_node.audio.format import SAMPLE_RATE_HZ

Sound: TypeAlias = npt.NDArray[np.float32]
"""Mono audio at 16 kHz, -1 to 1, shape (samples,)."""


@dataclass(frozen=True, slots=True)
class Line:
    """One thing to be said.

    Attributes:
        voice: whom of the engine's voices, in the engine's own words.
        say: what: phonemes, phones or text, as the engine takes it.
        speed: 1.0 is the voice's own; 1.3 is faster.
        pitch: factor on the voice's own pitch, where the engine can.
    """

    voice: str
    say: str
    speed: float = 1.0
    pitch: float = 1.0


Speak: TypeAlias = Callable[[Line], Sound]
"""Says a line.

Raises SettingsError if the engine or its voice is not installed, CannotSayError if this voice has no sound for it.
"""


class CannotSayError(SarvisError):
    """A voice cannot say a line: its language has no such sound. Others can, so this is no failure."""


def at_16k(samples: npt.NDArray[np.floating], rate_hz: float) -> Sound:
    """Samples of another rate, resampled."""
    sound: Sound = np.asarray(samples, np.float32)
    if rate_hz != SAMPLE_RATE_HZ:
        sound = np.asarray(soxr.resample(sound, rate_hz, SAMPLE_RATE_HZ), np.float32)
    return sound


def trimmed(sound: Sound, below_peak_db: float = 42.0) -> Sound:
    """Without the silence before and after: frames of 5 ms so far below the loudest; 10 ms stay on either side."""
    hop = SAMPLE_RATE_HZ // 200
    frames = sound[: len(sound) // hop * hop].reshape(-1, hop)
    if not len(frames):
        return sound
    power = np.sqrt((frames**2).mean(1))
    loud = np.flatnonzero(power > power.max() * 10 ** (-below_peak_db / 20))
    if not len(loud):
        return sound[:0]
    return sound[max(loud[0] - 2, 0) * hop : (loud[-1] + 3) * hop]
