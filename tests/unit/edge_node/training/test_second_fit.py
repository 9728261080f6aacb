"""A head of a second stage learns."""

import numpy as np
import pytest

from edge_node.training.second import SecondMember
from edge_node.training.second_fit import Pupils, learn, scores
from edge_node.training.second_windows import STEPS

pytestmark = pytest.mark.slow


def pupils(seed: int = 1) -> Pupils:
    """A word with a mark in the middle, near-misses with another one, and noise."""
    chance = np.random.default_rng(seed)
    steps = chance.normal(0.0, 1.0, (300, STEPS, 144)).astype(np.float16)
    kind = np.arange(300) % 3
    steps[kind == 0, 10:30, :48] += 2.0
    steps[kind == 1, 10:30, 48:96] += 2.0
    held = np.stack([np.where(kind == 2, -1, kind), np.full(300, -1)], axis=1)
    bags = [np.flatnonzero(kind == one) for one in range(3)]
    return Pupils(steps, bags, [0.5, 0.25, 0.25], kind == 0, held, (2, 3))


@pytest.fixture(scope="module")
def learned() -> SecondMember:
    return learn(pupils(), seed=1, steps=80)


def test_it_tells_new_words_from_near_misses_and_from_the_rest(learned: SecondMember) -> None:
    new = pupils(2)
    found = scores(learned, new.steps)
    assert np.median(found[new.bags[0]]) > np.percentile(found[new.bags[1]], 95)
    assert np.median(found[new.bags[0]]) > np.percentile(found[new.bags[2]], 95)


def test_the_same_seed_gives_the_same_head_and_another_one_another() -> None:
    first, again, other = (learn(pupils(), seed, steps=4) for seed in (1, 1, 2))
    for name, values in first.weights.items():
        np.testing.assert_array_equal(again.weights[name], values)
    assert (other.weights["in.w"] != first.weights["in.w"]).any()
