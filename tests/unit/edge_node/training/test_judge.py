from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_node.audio.format import FRAME_S
from edge_node.training.judge import Hour, Scores, false_accepts, fires, reached, scores_of
from edge_node.wakeword.gate import Gate, GateSettings
from edge_node.wakeword.native import Head

pytestmark = pytest.mark.slow

THRESHOLDS = (0.1, 0.3, 0.5, 0.7, 0.972, 1.0)
MARKS = sorted({round(mark, 6) for threshold in THRESHOLDS for mark in (threshold, threshold / 2)} | {0.0, 0.9})


def stream(values: list[float], unknown: int = 0) -> Scores:
    return np.array([np.nan] * unknown + values, np.float32)


def fed(scores: Scores, settings: GateSettings) -> list[int]:
    """What the gate makes of each and every frame."""
    gate = Gate(settings)
    return [
        frame
        for frame, score in enumerate(scores.tolist())
        if gate.feed(None if np.isnan(score) else score, (frame + 1) * FRAME_S) is not None
    ]


some_scores = st.one_of(
    st.lists(st.floats(0.0, 1.0, width=32), max_size=120),
    st.lists(st.sampled_from(MARKS), max_size=120),
    st.lists(st.sampled_from([0.0, 0.01, 0.02, 0.99, 1.0]), max_size=120),
)


@given(
    values=some_scores,
    unknown=st.integers(0, 30),
    threshold=st.sampled_from(THRESHOLDS),
    patience=st.integers(1, 4),
    refractory_frames=st.integers(0, 30),
)
def test_it_fires_where_the_gate_does_that_is_fed_every_frame(
    values: list[float], unknown: int, threshold: float, patience: int, refractory_frames: int
) -> None:
    settings = GateSettings(threshold, patience, refractory_frames * FRAME_S)
    assert fires(stream(values, unknown), settings) == fed(stream(values, unknown), settings)


def test_it_fires_again_after_one_low_frame() -> None:
    assert fires(stream([0.9, 0.9, 0.0, 0.9, 0.9]), GateSettings(0.5, 2, 0.0)) == [1, 4]


def test_it_fires_once_on_a_long_word_and_never_on_nothing() -> None:
    assert fires(stream([0.9] * 100, 24), GateSettings(0.5, 2)) == [25]
    assert fires(stream([], 24), GateSettings(0.5, 2)) == []
    assert fires(stream([]), GateSettings(0.5, 2)) == []


def test_a_day_of_scores_fires_where_the_gate_does() -> None:
    chance = np.random.default_rng(1)
    scores = (chance.random(20_000) ** 4).astype(np.float32)
    scores[:24] = np.nan
    for threshold in THRESHOLDS[:-1]:
        settings = GateSettings(threshold, 2)
        found = fires(scores, settings)
        assert found == fed(scores, settings)
        assert all(later - earlier > 25 for earlier, later in pairwise(found))


@given(
    values=st.one_of(
        st.lists(st.sampled_from(MARKS), max_size=20), st.lists(st.floats(0.0, 1.0, width=32), max_size=20)
    ),
    unknown=st.integers(0, 4),
    threshold=st.sampled_from(THRESHOLDS),
    patience=st.integers(1, 4),
)
def test_a_short_stream_fires_exactly_at_thresholds_that_it_has_reached(
    values: list[float], unknown: int, threshold: float, patience: int
) -> None:
    scores = stream(values, unknown + patience)  # as long as the patience at least
    # The gate compares in double precision.
    exact = float(np.float32(threshold))
    fired = fires(scores, GateSettings(exact, patience, 10.0))
    assert bool(fired) == (float(reached(scores[np.newaxis], patience)[0]) >= exact)
    assert len(fired) <= 1


def test_each_stream_has_its_own_highest_threshold() -> None:
    scores = np.stack(
        [
            stream([0.1, 0.9, 0.8, 0.1, 0.95]),
            stream([0.1, 0.2, 0.3, 0.4, 0.5]),
            stream([0.9, 0.8], 3),
        ]
    )
    assert reached(scores, 1).tolist() == np.array([0.95, 0.5, 0.9], np.float32).tolist()
    assert reached(scores, 2).tolist() == np.array([0.8, 0.4, 0.8], np.float32).tolist()


def test_a_stream_with_too_few_scores_reaches_no_threshold() -> None:
    assert reached(stream([1.0], 4)[np.newaxis], 2).tolist() == [-1.0]


def test_an_hour_is_as_long_as_its_frames() -> None:
    assert Hour("one", np.zeros(45_000, np.float32)).hours == pytest.approx(1.0)


def test_false_accepts_are_counted_over_all_packages_each_a_stream_of_its_own() -> None:
    settings = GateSettings(0.5, 2)
    word, quiet = [0.9, 0.9, 0.0], [0.0] * 50
    hours = [Hour("two", stream(word + quiet + word, 24)), Hour("none", stream(quiet)), Hour("one", stream(word))]
    assert false_accepts(hours, settings) == 3
    assert false_accepts([], settings) == 0
    half = [Hour("a", stream([0.0, 0.9])), Hour("b", stream([0.9, 0.0]))]
    assert false_accepts(half, settings) == 0


def test_scores_of_embeddings_begin_with_the_25th_frame() -> None:
    embedded = np.random.default_rng(1).normal(0.0, 10.0, (30, 96)).astype(np.float32)
    embedded[:9] = np.nan
    head = Head(second_stage=False)
    found = scores_of(embedded, head)
    assert np.isnan(found).tolist() == [True] * 24 + [False] * 6
    assert found[29] == np.float32(head.score(embedded[14:30]))
