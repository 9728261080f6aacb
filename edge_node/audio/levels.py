"""Measures loudness, to help a person place a microphone."""

import math
from dataclasses import dataclass

import numpy as np

from edge_node.audio.format import Frame
from edge_node.audio.ring import Block

_FULL_SCALE = 32768.0
FLOOR_DB = -96.0
_CLIPPED = 32767
_DITHER = 1
"""The most that a conversion adds to zeros or takes from them."""
_DITHER_DB = -90.0
_QUIET_DB, _LOUD_DB = -55.0, -6.0


@dataclass(frozen=True, slots=True)
class Level:
    """Loudness of a frame, in dB below full scale.

    Attributes:
    rms_db: as a meter shows it; FLOOR_DB at least.
    peak_db: the loudest sample.
    clipped: samples at full scale, which are distorted.
    """

    rms_db: float
    peak_db: float
    clipped: int


def dead(samples: Block) -> bool:
    """Whether int16 (n,) has no sound at all: zeros, give or take the dither of a conversion.

    A working microphone delivers its own noise.
    """
    if not len(samples):
        return True
    return bool(int(np.abs(samples).max()) <= _DITHER and abs(float(samples.mean())) < _DITHER / 2)


def level(frame: Frame) -> Level:
    """The level of int16 (n,)."""
    samples = frame.astype(np.float64)
    return Level(
        _decibels(math.sqrt(float(np.mean(samples**2)))),
        _decibels(float(np.abs(samples).max())),
        int((np.abs(samples) >= _CLIPPED).sum()),
    )


def advice(levels: list[Level]) -> str:
    """What to do about the measured levels, in one sentence."""
    if all(one.peak_db <= _DITHER_DB for one in levels):
        return "nothing but zeros: the microphone is muted, or this is the wrong device or channel"
    if sum(one.clipped for one in levels) > 0:
        return "too loud: samples are cut off; turn the microphone's gain down"
    loudest = max(one.rms_db for one in levels)
    if loudest < _QUIET_DB:
        return "very quiet: turn the gain up, or speak while this runs"
    if loudest > _LOUD_DB:
        return "very loud: turn the gain down a little"
    return "fine"


def _decibels(value: float) -> float:
    return round(max(20.0 * math.log10(value / _FULL_SCALE), FLOOR_DB), 1) if value > 0 else FLOOR_DB
