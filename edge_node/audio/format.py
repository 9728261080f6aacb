"""The audio format for every engine."""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

SAMPLE_RATE_HZ = 16_000
FRAME_SAMPLES = 1280
FRAME_S = FRAME_SAMPLES / SAMPLE_RATE_HZ

Frame: TypeAlias = npt.NDArray[np.int16]
"""80 ms of mono audio: int16, shape (1280,)."""
