"""How long the machine stood still, as far as this process notices: what no process could do meanwhile was not late."""

import threading
import time
from collections.abc import Callable
from typing import Self

EVERY_S = 0.1
NOTICED_S = 0.5
"""A thread that is late by less was only not the first."""


def stood_still_s(since: float, now: float) -> float:
    """Of the time between two looks, EVERY_S apart on a machine that runs."""
    late = now - since - EVERY_S
    return late if late > NOTICED_S else 0.0


class Standstill:
    """Use it in a `with` block.

    Attributes:
        seconds: for how long so far.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = 0.0
        self._clock = clock
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, name="standstill", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        before = self._clock()
        while not self._ended.wait(EVERY_S):
            now = self._clock()
            self.seconds += stood_still_s(before, now)
            before = now
