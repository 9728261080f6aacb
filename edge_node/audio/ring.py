"""The bounded queue between the recording and the listening thread, which counts lost samples exactly."""

import threading
from collections import deque
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Block = npt.NDArray[np.int16]
"""Mono samples at the device's rate: int16, shape (n,)."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Samples, and how many were lost just before them."""

    samples: Block
    lost: int = 0


class Ring:
    """A queue of at most `capacity` pieces; when it is full the oldest is dropped, and the next one reports that.

    So the sum of samples and losses equals what a clock would count, however slow the reader is.

    Attributes:
    gaps: how often samples were lost, here or before.
    lost: samples lost in all.
    """

    def __init__(self, capacity: int) -> None:
        self.gaps = 0
        self.lost = 0
        self._pieces: deque[Piece] = deque()
        self._capacity = capacity
        self._ended = False
        self._changed = threading.Condition()

    def __len__(self) -> int:
        return len(self._pieces)

    def put(self, samples: Block, *, lost: int = 0, gap: bool = False) -> None:
        """Append samples; never waits for the reader.

        `lost`: how many before them were lost on the way; `gap`: an unknown number was lost.
        """
        with self._changed:
            self.gaps += bool(lost) or gap
            self.lost += lost
            dropped = 0
            if len(self._pieces) == self._capacity:
                oldest = self._pieces.popleft()
                dropped = oldest.lost + len(oldest.samples)
                self.gaps += 1
                self.lost += len(oldest.samples)
            self._pieces.append(Piece(samples, lost))
            first = self._pieces[0]
            self._pieces[0] = replace(first, lost=first.lost + dropped)
            self._changed.notify()

    def get(self, timeout_s: float) -> Piece | None:
        """The oldest piece; None if none came in time or the ring has ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._pieces or self._ended, timeout_s)
            return None if self._ended or not self._pieces else self._pieces.popleft()

    def end(self) -> None:
        """Let `get` return None from now on."""
        with self._changed:
            self._ended = True
            self._changed.notify()
