"""Resamples a device's stream to frames at the engine's rate."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import soxr

from edge_node.audio.format import FRAME_SAMPLES, SAMPLE_RATE_HZ, Frame
from edge_node.audio.ring import Block

QUALITY = "LQ"
"""Quality of soxr: with it the word is recognised as often as with better ones, in half the delay (docs/wakeword.md).
"""


class Framer:
    """Cuts a stream of int16 (n,) at `rate_hz` into frames; zeros stay zeros.

    soxr adds dither to int16, even where both rates are the same: zeros would become -1, 0 and 1. It adds none to
    floats.
    """

    def __init__(self, rate_hz: int) -> None:
        self._resampler = (
            soxr.ResampleStream(rate_hz, SAMPLE_RATE_HZ, 1, dtype="float32", quality=QUALITY)
            if rate_hz != SAMPLE_RATE_HZ
            else None
        )
        self._pending: Block = np.empty(0, np.int16)

    def feed(self, samples: Block) -> Iterator[Frame]:
        """The frames that are complete with these samples."""
        return self._cut(self._at_16_khz(samples, last=False))

    def finish(self) -> Iterator[Frame]:
        """The end of the stream: the last frame, filled with silence."""
        yield from self._cut(self._at_16_khz(np.empty(0, np.int16), last=True))
        if len(self._pending):
            yield np.pad(self._pending, (0, FRAME_SAMPLES - len(self._pending)))

    def _cut(self, samples: Block) -> Iterator[Frame]:
        self._pending = np.concatenate((self._pending, samples))
        while len(self._pending) >= FRAME_SAMPLES:
            frame, self._pending = self._pending[:FRAME_SAMPLES], self._pending[FRAME_SAMPLES:]
            yield frame

    def _at_16_khz(self, samples: Block, *, last: bool) -> Block:
        if self._resampler is None:
            return samples
        return rounded(self._resampler.resample_chunk(samples.astype(np.float32) / 32768.0, last=last))


def rounded(sound: npt.NDArray[np.floating]) -> Block:
    """Samples from -1 to 1 as int16; larger ones are clipped."""
    made: Block = np.clip(np.rint(sound * 32768.0), -32768, 32767).astype(np.int16)
    return made
