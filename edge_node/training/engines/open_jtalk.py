"""Open JTalk (BSD) with the voice Mei (CC-BY), from PyPI: a statistical engine; katakana in."""

import math

import numpy as np
import pyopenjtalk

from edge_node.training.engines.seam import Line, Sound, at_16k

_FULL_SCALE = 32768.0


def open_jtalk(line: Line) -> Sound:
    """Say katakana; there is one voice."""
    labels = pyopenjtalk.extract_fullcontext(line.say)
    samples, rate_hz = pyopenjtalk.synthesize(labels, line.speed, 12 * math.log2(line.pitch))
    return at_16k(np.asarray(samples) / _FULL_SCALE, rate_hz)
