from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.errors import SettingsError
from edge_node.wakeword.gate import Gate, GateSettings, Trigger

FRAME_S = 0.08
HIGH, MIDDLE, LOW = 0.9, 0.3, 0.1


def feed(scores: Sequence[float | None], settings: GateSettings | None = None) -> list[Trigger | None]:
    gate = Gate(settings)
    return [gate.feed(score, number * FRAME_S) for number, score in enumerate(scores, start=1)]


def fired(scores: Sequence[float | None], settings: GateSettings | None = None) -> list[int]:
    """Numbers of the frames that fired."""
    return [number for number, trigger in enumerate(feed(scores, settings), start=1) if trigger is not None]


def test_the_defaults_are_those_of_a_head_that_advises_nothing() -> None:
    assert GateSettings() == GateSettings(threshold=0.5, patience=2, refractory_s=2.0)


def test_one_high_frame_is_not_enough() -> None:
    assert fired([LOW, HIGH, LOW, HIGH, MIDDLE]) == []


def test_the_second_high_frame_in_a_row_fires() -> None:
    assert fired([LOW, HIGH, HIGH, LOW]) == [3]


def test_a_score_of_exactly_the_threshold_counts() -> None:
    assert fired([0.5, 0.5]) == [2]


def test_a_frame_without_a_score_ends_a_run() -> None:
    assert fired([HIGH, None, HIGH]) == []


def test_a_score_that_is_no_number_ends_a_run() -> None:
    assert fired([HIGH, float("nan"), HIGH, HIGH]) == [4]


def test_a_trigger_has_the_peak_of_its_run_and_the_time_of_its_last_frame() -> None:
    assert feed([0.98, 0.999, 0.5], GateSettings(patience=3))[-1] == Trigger(at_s=3 * FRAME_S, score=0.999)


def test_a_long_word_fires_once() -> None:
    assert fired([HIGH] * 100) == [2]


def test_it_does_not_arm_again_at_half_the_threshold_or_above() -> None:
    assert fired([HIGH] * 2 + [0.25] * 40 + [HIGH] * 5) == [2]


def test_it_arms_again_below_half_the_threshold() -> None:
    assert fired([HIGH] * 2 + [0.2499] + [MIDDLE] * 40 + [HIGH] * 5) == [2, 45]


def test_frames_without_a_score_do_not_arm_it_again() -> None:
    assert fired([HIGH] * 2 + [None] * 40 + [HIGH] * 5) == [2]


@pytest.mark.parametrize("before", range(60))
def test_the_refractory_time_is_25_frames_wherever_it_begins(before: int) -> None:
    trigger = before + 2
    assert fired([LOW] * before + [HIGH] * 2 + [LOW] + [HIGH] * 40) == [trigger, trigger + 26]


def test_without_refractory_time_only_re_arming_is_waited_for() -> None:
    assert fired([HIGH, HIGH, LOW, HIGH, HIGH], GateSettings(refractory_s=0.0)) == [2, 5]


@pytest.mark.parametrize(
    "wrong",
    [{"threshold": 0.0}, {"threshold": 1.1}, {"threshold": float("nan")}, {"patience": 0}, {"refractory_s": -1.0}],
    ids=str,
)
def test_a_setting_that_cannot_work_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        GateSettings(**wrong)


def plain_model(scores: Sequence[float | None], settings: GateSettings, refractory_frames: int) -> list[int]:
    """The rule as one sentence about the whole history."""
    triggers: list[int] = []
    for now in range(len(scores)):
        run = range(now - settings.patience + 1, now + 1)
        is_run = run[0] >= 0 and all((scores[at] or 0.0) >= settings.threshold for at in run)
        is_first = not triggers
        is_rested = is_first or run[0] >= triggers[-1] + max(refractory_frames, 1)
        since = scores[triggers[-1] + 1 : now] if triggers else []
        is_armed = is_first or any(score is not None and score < settings.threshold / 2.0 for score in since)
        if is_run and is_rested and is_armed:
            triggers.append(now)
    return triggers


@given(
    scores=st.lists(st.sampled_from([None, 0.1, 0.44, 0.45, 0.6, 0.9, 0.95, 1.0]), max_size=80),
    patience=st.integers(1, 4),
    refractory_frames=st.integers(0, 10),
)
def test_any_stream_of_scores_fires_where_the_rule_says(
    scores: list[float | None], patience: int, refractory_frames: int
) -> None:
    settings = GateSettings(threshold=0.9, patience=patience, refractory_s=refractory_frames * FRAME_S)
    expected = plain_model(scores, settings, refractory_frames)
    assert [number - 1 for number in fired(scores, settings)] == expected


def test_other_settings_count_from_the_next_score_on_and_forgive_no_refractory_time() -> None:
    gate = Gate(GateSettings(threshold=0.5, patience=1, refractory_s=2.0))
    assert gate.feed(0.6, 1.0) is not None
    gate.adjust(GateSettings(threshold=0.3, patience=1, refractory_s=2.0))
    assert gate.settings.threshold == 0.3
    assert gate.feed(0.1, 1.1) is None
    assert gate.feed(0.35, 2.0) is None
    assert gate.feed(0.35, 3.0) is not None


def test_a_run_that_began_under_other_settings_does_not_count() -> None:
    gate = Gate(GateSettings(threshold=0.5, patience=2))
    assert gate.feed(0.6, 1.0) is None
    gate.adjust(GateSettings(threshold=0.55, patience=2))
    assert gate.feed(0.6, 1.1) is None
    assert gate.feed(0.6, 1.2) is not None
