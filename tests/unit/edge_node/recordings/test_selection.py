from collections.abc import Sequence

import numpy as np
import pytest

from edge_node.audio.format import FRAME_SAMPLES
from edge_node.recordings.selection import AFTER_FRAMES, BEFORE_FRAMES, Selection, Selector

THRESHOLD = 0.6


def mine(scores: Sequence[float | None], fired_at: int | None = None) -> list[Selection]:
    """Each frame is filled with its number."""
    miner = Selector()
    found = []
    for number, score in enumerate(scores):
        frame = np.full(FRAME_SAMPLES, number, np.int16)
        find = miner.feed(frame, score, fired=number == fired_at, threshold=THRESHOLD)
        if find is not None:
            found.append(find)
    return found


def numbers(find: Selection) -> list[int]:
    return [int(number) for number in find.samples[::FRAME_SAMPLES]]


def test_a_trigger_is_stored_with_the_sound_around_its_best_frame() -> None:
    scores = [0.0] * 50 + [0.4, 0.7, 0.9, 0.7, 0.4] + [0.0] * 20
    (find,) = mine(scores, fired_at=52)
    assert (find.kind, find.score) == ("trigger", 0.9)
    assert numbers(find) == list(range(52 - BEFORE_FRAMES, 52 + AFTER_FRAMES + 1))
    assert 2.0 < len(find.samples) / 16_000 < 3.0


def test_what_reaches_half_the_threshold_and_does_not_fire_is_near() -> None:
    (find,) = mine([0.0] * 40 + [0.31] + [0.0] * 20)
    assert (find.kind, find.score) == ("near", 0.31)


def test_less_than_half_the_threshold_is_nothing() -> None:
    assert mine([0.29, None] * 50) == []


def test_scores_that_dip_for_a_moment_are_one_find() -> None:
    assert len(mine([0.0] * 40 + [0.5, 0.0, 0.0, 0.5] + [0.0] * 20)) == 1
    assert len(mine([0.0] * 40 + [0.5, *[0.0] * 10, 0.5] + [0.0] * 20)) == 2


def test_a_noise_that_scores_for_ever_is_told_every_few_seconds() -> None:
    found = mine([0.5] * 100)
    assert len(found) == 3
    assert all(find.kind == "near" for find in found)


def test_at_the_beginning_there_is_less_to_keep() -> None:
    (find,) = mine([None, None, 0.5, *[0.0] * 10])
    assert numbers(find) == [0, 1, 2, 3, 4, 5, 6]


def test_the_next_find_knows_nothing_of_the_one_before() -> None:
    quiet = [0.0] * 40
    first, second = mine([*quiet, 0.9, *quiet, 0.4, *quiet], fired_at=40)
    assert [(find.kind, find.score) for find in (first, second)] == [("trigger", 0.9), ("near", 0.4)]
    assert numbers(second)[BEFORE_FRAMES] == 81


@pytest.mark.parametrize("late", range(1, 5))
def test_a_gate_that_fires_after_the_last_high_score_makes_it_a_trigger_all_the_same(late: int) -> None:
    (find,) = mine([0.0] * 40 + [0.9] + [0.0] * 20, fired_at=40 + late - 1)
    assert find.kind == "trigger"
