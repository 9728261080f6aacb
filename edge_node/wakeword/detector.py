"""The seam to a wake-word engine, and the audio format that every engine is fed with."""

from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

SAMPLE_RATE_HZ = 16_000
FRAME_SAMPLES = 1280
FRAME_S = FRAME_SAMPLES / SAMPLE_RATE_HZ

Frame: TypeAlias = npt.NDArray[np.int16]
"""80 ms of mono audio: int16, shape (1280,)."""


class Detector(Protocol):
    """A streaming engine with the memory of one audio stream; a new stream takes a new detector.

    Attributes:
        model: name of the model, for logs and messages.
    """

    model: str

    def feed(self, frame: Frame) -> float | None:
        """Score, 0 to 1, of the window that ends with this frame; None while fewer than 16 real embeddings exist."""
        ...
