"""Differences of two models, with intervals by drawing voices."""

import numpy as np
import pytest

from edge_node.training.by_voice import changes, drawn
from edge_node.training.engines.seam import Line
from edge_node.training.hearing import TEN_DB, Hearing
from edge_node.training.intervals import Share
from edge_node.training.measure import CLEAN
from edge_node.training.plan import Clip, Kind
from edge_node.training.voices import Engine
from tests.unit.edge_node.training.test_compare import scenes

pytestmark = pytest.mark.slow


def clip(voice: str, kind: Kind = "word", group: str = "word", engine: Engine = "kokoro") -> Clip:
    return Clip(f"{voice}{group}", engine, "test", kind, group, group, Line(voice, "say"))


def test_if_all_voices_differ_alike_there_is_no_doubt() -> None:
    said_by = ["a", "a", "b", "b", "c", "c"]
    before, after = np.array([True, False] * 3), np.zeros(6, np.bool_)
    assert drawn(said_by, before, after) == pytest.approx((-0.5, -0.5))


def test_what_one_voice_of_three_decides_is_in_doubt() -> None:
    said_by = ["a"] * 20 + ["b"] * 20 + ["c"] * 20
    before, after = np.zeros(60, np.bool_), np.array([True] * 20 + [False] * 40)
    low, high = drawn(said_by, before, after)
    assert low == 0.0
    assert high >= 2 / 3
    independent = drawn([str(number) for number in range(60)], before, after)
    assert independent[0] > 0.15
    assert independent[1] < 0.5


def test_one_voice_says_nothing_of_others() -> None:
    assert np.isnan(drawn(["a", "a"], np.array([True, True]), np.array([False, False]))).all()


def test_each_kind_of_mistake_is_counted_at_each_models_own_threshold() -> None:
    words = [clip("af_river"), clip("bf_emma")]
    nears = [clip("af_river", "near", "vowel"), clip("bf_emma", "near", "jarvis"), clip("bf_emma", "near", "sound")]

    def hearing(word: list[float], near: list[float]) -> Hearing:
        heard = {("kokoro", condition): scenes(word) for condition in TEN_DB}
        return Hearing(
            2,
            {("kokoro", CLEAN): scenes([0.9, 0.9]), **heard},
            {("kokoro", CLEAN): scenes(near)},
            {"kokoro": nears},
            [],
            {"kokoro": words},
        )

    found = changes(hearing([0.2, 0.6], [0.8, 0.8, 0.1]), hearing([0.4, 0.6], [0.8, 0.2, 0.8]), (0.5, 0.3), "5 %")
    assert [(one.what, one.before, one.after, one.voices) for one in found] == [
        ("missed, clean, Kokoro", Share(0, 2), Share(0, 2), 2),
        ("missed, noise at 10 dB, Kokoro", Share(3, 6), Share(0, 6), 2),
        ("near-misses of group vowel taken", Share(1, 1), Share(1, 1), 1),
        ("near-misses of group jarvis taken", Share(1, 1), Share(0, 1), 1),
        ("other near-misses taken", Share(0, 1), Share(1, 1), 1),
    ]
    assert (found[1].low, found[1].high) == pytest.approx((-1.0, 0.0))
    assert {one.at for one in found} == {"5 %"}
