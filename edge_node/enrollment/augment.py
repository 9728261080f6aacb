"""Varies an utterance: later, farther away, with voices or a fan; uses numpy alone.

The same input gives the same output.
"""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from edge_node.audio.format import FRAME_SAMPLES, SAMPLE_RATE_HZ

Samples: TypeAlias = npt.NDArray[np.int16]
_Sound: TypeAlias = npt.NDArray[np.float64]

_T60_S = 0.35
_FARTHER_DB = 12.0
_ROOM_DB = 12.0
_NOISE_DB = 10.0
_TALKERS = 5
_SILENT = 1e-9


def variants(sound: Samples, room: Samples, talk: Samples) -> list[Samples]:
    """Variants of int16 (n,), each of the same length: half a frame later.

    Farther away; that with talkers; that with a fan.

    Noise is as loud as the room's, 12 dB below the word; talkers and fan are 10 dB below. `sound` begins with enough of
    the room for a window: noise must precede the word.
    """
    chance = np.random.default_rng(len(sound))
    later = np.concatenate((np.zeros(FRAME_SAMPLES // 2, np.int16), sound))[: len(sound)]
    said = _farther(sound.astype(np.float64), chance)
    word = _loudness(said)
    noises = (
        _at(np.resize(room, len(sound)).astype(np.float64) if len(room) else np.zeros(len(sound)), word - _ROOM_DB),
        _at(_talkers(talk, len(sound), chance), word - _NOISE_DB),
        _at(_fan(len(sound), chance), word - _NOISE_DB),
    )
    quieter = 10 ** (-_FARTHER_DB / 20.0)
    return [later, *(_samples((said + noise) * quieter) for noise in noises)]


def _farther(sound: _Sound, chance: np.random.Generator) -> _Sound:
    """With the echo of a room."""
    length = round(_T60_S * SAMPLE_RATE_HZ)
    tail = chance.standard_normal(length) * 10 ** (-3.0 * np.arange(length) / length)
    tail /= np.sqrt((tail**2).sum())
    tail[0] += 1.0
    size = len(sound) + length
    echoed: _Sound = np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(tail, size), size)[: len(sound)]
    return echoed


def _talkers(talk: Samples, length: int, chance: np.random.Generator) -> _Sound:
    """Pieces of what was said, all at once."""
    together = np.zeros(length)
    if len(talk) > length:
        for start in chance.integers(0, len(talk) - length, _TALKERS):
            together += talk[start : start + length]
    return together


def _fan(length: int, chance: np.random.Generator) -> _Sound:
    """Noise that falls by 3 dB an octave, as most household noise does."""
    spectrum = np.fft.rfft(chance.standard_normal(length))
    fan: _Sound = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 1.0)), length)
    return fan


def _loudness(sound: _Sound) -> float:
    """In dB, of its loudest fifth: the word, not its surroundings."""
    frames = sound[: len(sound) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)
    loudest = np.sort((frames**2).mean(axis=1))[-max(len(frames) // 5, 1) :]
    return float(10.0 * np.log10(loudest.mean() + _SILENT))


def _at(noise: _Sound, level_db: float) -> _Sound:
    """Scaled to that RMS; silence stays silent."""
    now = float(np.sqrt((noise**2).mean()))
    return noise * (10 ** (level_db / 20.0) / now) if now > _SILENT else noise


def _samples(sound: _Sound) -> Samples:
    return np.clip(np.rint(sound), -32768, 32767).astype(np.int16)
