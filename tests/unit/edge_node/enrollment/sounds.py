"""Made-up rooms and words: noise and tones, int16 at 16 kHz, the same on every machine."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from edge_node.audio.format import FRAME_SAMPLES, SAMPLE_RATE_HZ, Frame

Samples = npt.NDArray[np.int16]


def _int16(sound: npt.NDArray[np.float64]) -> Samples:
    samples: Samples = np.clip(np.rint(sound), -32768, 32767).astype(np.int16)
    return samples


def noise(seconds: float, level_db: float, seed: int = 1) -> Samples:
    rng = np.random.default_rng(seed)
    sound = rng.normal(0.0, 32768.0 * 10.0 ** (level_db / 20.0), round(seconds * SAMPLE_RATE_HZ))
    return _int16(sound)


def tone(seconds: float, level_db: float) -> Samples:
    time_s = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    amplitude = 32768.0 * 2.0**0.5 * 10.0 ** (level_db / 20.0)
    return _int16(amplitude * np.sin(2.0 * np.pi * 300.0 * time_s))


def said(*pieces: Samples, room_db: float = -60.0) -> Samples:
    """Pieces one after the other, in a room."""
    sound = np.concatenate(pieces).astype(np.float64)
    return _int16(sound + noise(len(sound) / SAMPLE_RATE_HZ, room_db, seed=2).astype(np.float64))


def silence(seconds: float) -> Samples:
    return np.zeros(round(seconds * SAMPLE_RATE_HZ), np.int16)


def frames(samples: Samples) -> Iterator[Frame]:
    for start in range(0, len(samples) - FRAME_SAMPLES + 1, FRAME_SAMPLES):
        yield samples[start : start + FRAME_SAMPLES]
