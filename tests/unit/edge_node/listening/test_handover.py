"""A detector takes over from another, and no frame passes without one that hears."""

import numpy as np

from edge_node.audio.format import FRAME_SAMPLES, Frame
from edge_node.listening.handover import Handover

FRAME: Frame = np.zeros(FRAME_SAMPLES, np.int16)


class Counting:
    """Has scores from its fourth frame on."""

    def __init__(self, model: str, score: float) -> None:
        self.model = model
        self.heard = 0
        self._score = score

    def feed(self, frame: Frame) -> float | None:
        del frame
        self.heard += 1
        return self._score if self.heard > 3 else None


def begun() -> tuple[Handover, Counting]:
    old = Counting("old", 0.1)
    it = Handover(old)
    for _ in range(10):
        it.feed(FRAME)
    return it, old


def test_the_old_one_hears_until_the_new_one_has_scores() -> None:
    it, old = begun()
    new, taken = Counting("new", 0.9), list[float]()
    it.begin(new, lambda: taken.append(1.0))
    assert [it.feed(FRAME) for _ in range(5)] == [0.1, 0.1, 0.1, 0.9, 0.9]
    assert (taken, it.model, old.heard) == ([1.0], "new", 13)


def test_a_new_one_that_is_given_up_never_hears() -> None:
    it, _ = begun()
    new = Counting("new", 0.9)
    it.begin(new, lambda: None)
    it.feed(FRAME)
    assert it.abandon(new)
    assert [it.feed(FRAME) for _ in range(5)] == [0.1] * 5
    assert it.model == "old"


def test_one_that_has_taken_over_cannot_be_given_up() -> None:
    it, _ = begun()
    new = Counting("new", 0.9)
    it.begin(new, lambda: None)
    for _ in range(4):
        it.feed(FRAME)
    assert not it.abandon(new)
