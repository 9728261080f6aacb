from pathlib import Path

import numpy as np
import pytest

from edge_node.training import learned
from edge_node.training.heads import Member
from tests.unit.edge_node.training.test_heads import member

pytestmark = pytest.mark.slow


def test_what_was_learned_is_not_learned_again_unless_something_else_was_told(tmp_path: Path) -> None:
    lessons: list[int] = []

    def learn() -> Member:
        lessons.append(1)
        return member("conv", len(lessons))

    first = learned.member(tmp_path, "conv", "seed 1, all packages", learn)
    again = learned.member(tmp_path, "conv", "seed 1, all packages", learn)
    assert len(lessons) == 1
    assert first.weights.keys() == again.weights.keys() == member("conv", 1).weights.keys()
    for name, values in member("conv", 1).weights.items():
        np.testing.assert_array_equal(again.weights[name], values)
    np.testing.assert_array_equal(again.scale.mean, member("conv", 1).scale.mean)
    np.testing.assert_array_equal(again.scale.deviation, member("conv", 1).scale.deviation)

    other = learned.member(tmp_path, "conv", "seed 1, one package less", learn)
    assert len(lessons) == 2
    assert not np.array_equal(other.weights["in.w"], again.weights["in.w"])


def test_a_file_that_was_not_finished_is_not_taken_for_a_network(tmp_path: Path) -> None:
    learned.member(tmp_path, "dense", "one", lambda: member("dense", 1))
    [path] = (tmp_path / "learned").iterdir()
    path.rename(path.with_suffix(".part.npz"))
    found = learned.member(tmp_path, "dense", "one", lambda: member("dense", 2))
    np.testing.assert_array_equal(found.weights["in.w"], member("dense", 2).weights["in.w"])
