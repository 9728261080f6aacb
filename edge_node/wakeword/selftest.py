"""Checks at start that the engine computes the right scores on this machine."""

import numpy as np

from contract.errors import StartError
from edge_node.audio.format import FRAME_SAMPLES, SAMPLE_RATE_HZ, Frame
from edge_node.wakeword.features import EmbeddingStream
from edge_node.wakeword.incremental import WARM_UP_FRAMES

TOLERANCE = 1e-2
GOLDEN = (-19.683, 9.23, 15.634, -18.695, 3.294, 17.096, 5.626, 3.39, -11.295, 10.01, -15.254, -18.743)
"""The first values of the embedding, of up to 40; other processors' arithmetic differs by 1e-4."""


def check() -> None:
    """Embed a synthetic sound and compare; takes a hundredth of a second. Raises StartError."""
    stream = EmbeddingStream()
    embedding = None
    for frame in sound():
        embedding = stream.feed(frame)
    if embedding is None or not np.allclose(embedding[: len(GOLDEN)], GOLDEN, rtol=0.0, atol=TOLERANCE):
        raise StartError(
            "the wake-word engine computes wrong scores on this machine: it would miss words or fire at random. "
            "Reinstall numpy and onnxruntime (onnxruntime 1.27.0 is known to be wrong on arm64)"
        )


def sound() -> list[Frame]:
    """Rising tones, 0.8 s, int16: the same samples on every machine."""
    seconds = np.arange(WARM_UP_FRAMES * FRAME_SAMPLES) / SAMPLE_RATE_HZ
    tones = sum(np.sin(2.0 * np.pi * (pitch + 150.0 * seconds) * seconds) for pitch in (220.0, 700.0, 1900.0))
    return list(np.round(4000.0 * tones).astype(np.int16).reshape(-1, FRAME_SAMPLES))
