# ruff: noqa: RUF001 the tables have a sign of multiplication
"""What is counted when held-out voices are taught as if they lived here; the whole takes minutes and a gigabyte."""

from dataclasses import replace

import numpy as np
import pytest

from edge_node.training import enrolled_report, voices
from edge_node.training.candidates import Candidates, joined
from edge_node.training.enrolled import EQUAL, OWN, Change, Enrolled, Row, Trial, change_of, equal, row
from edge_node.training.grounding import hidden_layers
from edge_node.training.labels import Labels
from edge_node.training.users import person, users
from edge_node.training.vocabulary import load_word
from edge_node.wakeword.grounds import BEST_FRAMES, Grounds
from edge_node.wakeword.native import shipped_model_path

pytestmark = pytest.mark.slow

SOME = Candidates(
    3,
    np.array([0, 0, 0, 2, 2]),
    np.array([30, 31, 33, 40, 41]),
    np.array([1.0, 0.5, 9.0, -1.0, 2.0]),
    np.array([[0.0], [1.0], [0.0], [4.0], [0.0]], np.float32),
)


def test_a_scene_fires_where_two_frames_in_a_row_reach_the_threshold() -> None:
    assert SOME.reached().tolist() == [0.5, -99.0, -1.0]
    assert SOME.reached((np.array([2.0]), 0.25)).tolist() == [1.25, -99.0, 2.25]


def test_the_best_candidates_are_those_of_each_scene() -> None:
    many = Candidates(2, np.repeat([0, 1], 6), np.tile(np.arange(6), 2), np.arange(12.0), np.zeros((12, 1), np.float32))
    assert sorted(many.best().tolist()) == [2, 3, 4, 5, 8, 9, 10, 11]
    assert len(many.best()) == 2 * BEST_FRAMES


def test_scenes_that_are_joined_are_numbered_on() -> None:
    both = joined([SOME, replace(SOME)])
    assert both.count == 6
    assert both.reached().tolist() == [*SOME.reached(), *SOME.reached()]


def test_a_change_is_counted_over_people_and_its_interval_is_wider_where_they_differ() -> None:
    alike = change_of(np.array([[10.0, 5.0, 100.0]] * 8))
    assert (alike.before, alike.after, alike.ratio) == (0.1, 0.05, 0.5)
    assert alike.after_interval == (0.05, 0.05)
    different = change_of(np.array([[10.0, 0.0, 100.0], [10.0, 10.0, 100.0]] * 4))
    assert different.after == 0.05
    low, high = different.after_interval
    assert low < 0.03
    assert high > 0.07


def test_without_a_voice_as_many_false_accepts_are_used_as_with_it() -> None:
    alone = np.array([5.0, 4.0, 1.0, 0.0])
    words = np.array([4.5, 3.0, 2.0])
    same = [Trial(who, 0.5, {"quiet": (words, words)}, (alone, alone)) for who in "ab"]
    before, after = equal(same, 2)
    assert 1.0 < before < 1.0001, "the third of them must not fire, and all below need not"
    assert after == [before, before]
    softer = [replace(trial, life=(alone, alone - 3.0)) for trial in same]
    assert equal(softer, 2) == (before, [np.nextafter(-2.0, np.inf)] * 2)
    uneven = [replace(same[0], life=(alone, alone + 9.0)), replace(same[1], life=(alone, alone - 9.0))]
    assert equal(uneven, 2)[1] == [np.nextafter(-4.0, np.inf)] * 2, "four of the two together"


def test_a_row_counts_all_its_thresholds_together() -> None:
    kinds = ("quiet", "noisy", "own", "own_hard", "others", "guests")
    logits, louder = np.array([0.0, 1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0, 4.0])
    trials = [Trial(who, 0.5, dict.fromkeys(kinds, (logits, louder)), (logits, louder)) for who in "ab"]
    found = row(10, EQUAL, trials, [(1.5, [1.5, 1.5]), (2.5, [2.5, 2.5])], hours=2.0)
    assert (found.people, found.words) == (2, 10)
    assert (found.missed.before, found.missed.after) == (5 / 8, 3 / 8)
    assert (found.others.before, found.others.after) == (3 / 8, 5 / 8)
    assert (found.false_accepts.before, found.false_accepts.after) == (3 / 4, 5 / 4), "an hour"


def test_the_grounds_that_are_shipped_are_of_the_last_hidden_layers_of_the_model() -> None:
    grounds = Grounds.load()
    assert grounds is not None
    assert grounds.layers == hidden_layers(shipped_model_path())


def test_voices_that_teach_the_grounds_are_not_measured_and_say_word_and_near_misses() -> None:
    clips = users(load_word("싸비스"))
    people = {person(clip) for clip in clips}
    held_out = {f"kokoro:{name}" for name in (*voices.KOKORO["dev"], *voices.KOKORO["test"])}
    held_out |= {f"espeak:{name}" for split in ("dev", "test") for name in voices.ESPEAK_VARIANTS[split]}
    held_out |= {f"festival:{name}" for split in ("dev", "test") for name in voices.FESTIVAL[split]}
    assert not people & held_out
    assert len(people) > 90
    variants = [name for name in voices.ESPEAK_VARIANTS["train"] if name not in voices.LEFT_OUT]
    assert "" in variants, "the voice without a variant is one person, whatever the language"
    assert len(variants) > 50
    for one in (f"espeak:{name}" for name in variants):
        kinds = [clip.kind for clip in clips if person(clip) == one]
        assert kinds.count("word") >= 5, one
        assert kinds.count("near") >= 5, one
    assert clips == users(load_word("싸비스"))


def test_the_page_tells_what_was_before_and_what_is_left() -> None:
    change = Change(0.2, 0.1, (0.1, 0.3), (0.05, 0.15), (0.4, 0.6))
    equally = Row(10, EQUAL, 17, *[change] * 8)
    labels = [Labels(3, "verifier", 8, 0.251, 0.349, 0.0526, 0.123)]
    measured = Enrolled("a.npz", 10.0, [equally, replace(equally, at=OWN)], labels)
    page = enrolled_report.markdown([measured, replace(measured, grounds="b.npz")])
    assert "| 10 (17) | 20.0 to **10.0** % (5.0 to 15.0); × 0.50 (0.40 to 0.60) |" in page
    assert "0.20 to **0.10** (0.05 to 0.15) |" in page  # false accepts, of an hour
    assert "the mean of 0.10, 0.20, 0.40 and 0.80 (1, 2, 4 and 8 in 10.0 h)" in page
    assert "| 3 (8 draws) | the verifier | 25 % | 35 % | 5.3 % | 0.12 |" in page
    assert "| b.npz | 10 | 20.0 to 10.0 %, × 0.50 |" in page
    assert change.ratio == pytest.approx(0.5)
