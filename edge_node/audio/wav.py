"""Samples as the bytes of a WAV file."""

import io
import wave

import numpy as np
import numpy.typing as npt

from edge_node.audio.format import SAMPLE_RATE_HZ


def wav(samples: npt.NDArray[np.int16], rate_hz: int = SAMPLE_RATE_HZ) -> bytes:
    """A WAV file of int16 (n,): 16 bits, mono."""
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(samples.astype("<i2").tobytes())
    return content.getvalue()
