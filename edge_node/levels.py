"""How loud it is, as numbers: for whoever places a microphone."""

import math
from dataclasses import dataclass

import numpy as np

from edge_node.ring import Block
from edge_node.wakeword.detector import Frame

_FULL_SCALE = 32768.0
FLOOR_DB = -96.0
_CLIPPED = 32767
_DITHER = 1
"""What a program that converts zeros may add to them or take from them."""
_DITHER_DB = -90.0
_QUIET_DB, _LOUD_DB = -55.0, -6.0


@dataclass(frozen=True, slots=True)
class Level:
    """Of a frame, in dB below full scale.

    Attributes:
        rms_db: what a meter shows; FLOOR_DB at least.
        peak_db: the loudest sample.
        clipped: samples at full scale, which are distorted.
    """

    rms_db: float
    peak_db: float
    clipped: int


def dead(samples: Block) -> bool:
    """Whether int16 (n,) is no sound at all: zeros, give or take the dither of a conversion.

    A microphone that works hears its own hiss.
    """
    if not len(samples):
        return True
    return bool(int(np.abs(samples).max()) <= _DITHER and abs(float(samples.mean())) < _DITHER / 2)


def level(frame: Frame) -> Level:
    """Of int16 (n,)."""
    samples = frame.astype(np.float64)
    return Level(
        _decibels(math.sqrt(float(np.mean(samples**2)))),
        _decibels(float(np.abs(samples).max())),
        int((np.abs(samples) >= _CLIPPED).sum()),
    )


def advice(levels: list[Level]) -> str:
    """What to do about what was heard, in one sentence."""
    if all(one.peak_db <= _DITHER_DB for one in levels):
        return "nothing but zeros: the microphone is muted, or this is another device's channel"
    if sum(one.clipped for one in levels) > 0:
        return "too loud: samples are cut off; turn the microphone's gain down"
    loudest = max(one.rms_db for one in levels)
    if loudest < _QUIET_DB:
        return "very quiet: turn the gain up, or say something while this runs"
    if loudest > _LOUD_DB:
        return "very loud: turn the gain down a little"
    return "fine"


def _decibels(value: float) -> float:
    return round(max(20.0 * math.log10(value / _FULL_SCALE), FLOOR_DB), 1) if value > 0 else FLOOR_DB
