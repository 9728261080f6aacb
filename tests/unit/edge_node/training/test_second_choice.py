"""Weights and thresholds of a second stage, on scores that are made up."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from edge_node.training.engines.seam import Line
from edge_node.training.intervals import Rate, Share
from edge_node.training.measure import CLEAN, Condition
from edge_node.training.plan import Clip
from edge_node.training.second_asked import Asked
from edge_node.training.second_choice import Chosen, Judged, Mistakes, best_weight, mistakes, no_worse
from edge_node.training.second_windows import STEPS

pytestmark = pytest.mark.slow

BABBLE = Condition("babble", 10)
FRAMES = 45_000


def logit(score: float) -> float:
    return float(np.log(score / (1 - score)))


def asked(best: list[float]) -> Asked:
    """Each stream reaches its score for two frames, and is asked about there if that is 0.05 or more."""
    first = np.full((len(best), 30), 0.01, np.float32)
    first[:, :24] = np.nan
    first[:, 26:28] = np.array(best, np.float32)[:, np.newaxis]
    where = np.argwhere(np.nan_to_num(first) >= 0.05)
    return Asked(first, where, np.zeros((len(where), STEPS, 144), np.float16))


def hour(best: list[float]) -> Asked:
    first = np.full((1, FRAMES), 0.001, np.float32)
    for number, one in enumerate(best):
        first[0, 1000 * (number + 1) :][:2] = one
    where = np.argwhere(first >= 0.05)
    return Asked(first, where, np.zeros((len(where), STEPS, 144), np.float16))


def judged(of: Asked, second: list[float]) -> Judged:
    """The second stage's logit for each stream that is asked about, twice."""
    return Judged(of, np.repeat(np.array(second, np.float32), 2))


def near(name: str, group: str) -> Clip:
    return Clip(name, "kokoro", "dev", "near", name, group, Line("voice", name))


def chosen() -> Chosen:
    """The second stage is right of all that the first is wrong of."""
    return Chosen(
        words={
            ("kokoro", CLEAN): judged(asked([0.9] * 20), [0.0] * 20),
            ("kokoro", BABBLE): judged(asked([0.3, 0.95]), [4.0, 0.0]),
            ("espeak", BABBLE): judged(asked([0.3, 0.02]), [4.0]),
        },
        nears={("kokoro", CLEAN): judged(asked([0.95, 0.95]), [-4.0, 0.0])},
        near_clips={"kokoro": [near("서비스", "vowel"), near("버스", "everyday")]},
        word_clips={},
        recordings={"one": judged(hour([0.5, 0.6, 0.8]), [0.0, -3.0, -3.0])},
        patience=2,
    )


def test_both_logits_are_added_where_the_second_is_used_else_the_first_stands() -> None:
    one = judged(asked([0.5, 0.02, 0.9]), [2.0, -1.0])
    found: npt.NDArray[np.float32] = one.fused(0.5)
    assert found[0, 26:28] == pytest.approx(1 / (1 + np.exp(-1.0)), abs=1e-6)
    assert found[2, 26] == pytest.approx(1 / (1 + np.exp(-(logit(0.9) - 0.5))), abs=1e-6)
    np.testing.assert_array_equal(found[1], one.asked.first[1])
    np.testing.assert_allclose(one.fused(0.0), one.asked.first, rtol=1e-6)


def test_a_weights_mistakes_are_counted_where_equally_many_clean_words_are_missed() -> None:
    alone, both = (mistakes(chosen().hearing(weight), weight)[0] for weight in (0.0, 1.0))
    assert alone.at == 0.05
    assert alone.threshold == pytest.approx(0.9)
    assert (alone.missed_ten_db, alone.missed_others_ten_db) == (Share(1, 2), Share(2, 2))
    assert (alone.taken_hard, alone.taken_other, alone.false_accepts) == (Share(1, 1), Share(1, 1), Rate(0, 1.0))
    assert both.threshold == pytest.approx(0.9)
    assert (both.missed_ten_db, both.missed_others_ten_db) == (Share(0, 2), Share(1, 2))
    assert (both.taken_hard, both.taken_other) == (Share(0, 1), Share(1, 1))
    assert alone.blame == pytest.approx(0.875)
    assert both.blame == pytest.approx(0.375)


def test_the_weight_with_the_fewest_mistakes_is_chosen() -> None:
    table = [row for weight in (0.0, 0.25, 1.0) for row in mistakes(chosen().hearing(weight), weight)]
    assert best_weight(table) == 1.0
    assert best_weight([row for row in table if row.weight < 1.0]) == 0.25


def test_a_weight_that_costs_more_false_accepts_than_the_first_stage_alone_is_not_chosen_if_another_does_not() -> None:
    def rows(weight: float, missed: int, events: int) -> list[Mistakes]:
        share = Share(missed, 10)
        return [Mistakes(weight, at, 0.5, share, share, share, share, Rate(events, 1.0)) for at in (0.05, 0.1)]

    alone, cheap, dear = rows(0.0, 6, 2), rows(0.5, 5, 2), rows(1.0, 1, 3)
    assert best_weight([*alone, *cheap, *dear]) == 0.5
    assert best_weight([*alone, *dear]) == 1.0
    assert best_weight([*alone, *cheap, *rows(1.0, 1, 2)]) == 1.0


def test_thresholds_cost_no_more_false_accepts_than_before() -> None:
    one = replace(chosen(), nears={})
    first, both = one.hearing(0.0), one.hearing(1.0)
    found = no_worse(first, both, {"lenient": 0.4, "normal": 0.55, "strict": 0.9})
    assert first.false_accepts(0.4).events == 3
    assert both.false_accepts(found["normal"]).events <= first.false_accepts(0.55).events == 2
    assert both.false_accepts(found["strict"]).events == 0
    assert found["lenient"] <= found["normal"] <= found["strict"] == pytest.approx(0.5, abs=0.02)


def test_nor_do_they_take_more_near_misses_where_recordings_have_no_false_accepts() -> None:
    one = replace(chosen(), recordings={})
    first, both = one.hearing(0.0), one.hearing(1.0)
    found = no_worse(first, both, {"lenient": 0.4, "normal": 0.93, "strict": 0.97})
    assert first.taken(lambda _: True, 0.93) == Share(2, 2)
    assert found["lenient"] == found["normal"] < 0.01, "both near-misses may be taken"
    assert first.taken(lambda _: True, 0.97) == Share(0, 2)
    assert found["strict"] == pytest.approx(0.95, abs=0.02)
