import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from edge_node.wakeword.impression import Impression, peaks, where

NOWHERE = np.empty((0, 2))
LINE = (np.array([1.0, 0.0]), 0.5)
SOME = Impression.of(
    40, [3, 4, 20], [0.0, 1.0, 9.0], np.array([[1.0, 9.0], [-2.0, 9.0], [0.0, 9.0]]), np.array([[1.0, 3.0], [3.0, 5.0]])
)


def sigmoid(logit: float) -> float:
    return float(1 / (1 + np.exp(-logit)))


def test_a_peak_is_what_two_frames_in_a_row_reach_with_the_verifier() -> None:
    assert SOME.peak(LINE, 2) == pytest.approx(sigmoid(1.0 - 2.0 + 0.5), abs=1e-3)
    assert SOME.peak(LINE, 1) == pytest.approx(sigmoid(9.0 + 0.5), abs=1e-3)


def test_each_second_has_a_peak_and_it_is_0_without_a_second_stage_call() -> None:
    first, *rest = SOME.peaks(LINE, 2)
    assert first > 0.0
    assert rest == [0.0] * 3, "39 pairs of frames, 12 in a second"
    assert Impression.of(1, [], [], NOWHERE, NOWHERE).peaks(LINE, 2) == []


def test_the_place_of_a_word_is_the_mean_of_its_forms_and_may_be_missing() -> None:
    nowhere = Impression.of(40, [], [], NOWHERE, NOWHERE)
    assert where([SOME, nowhere, SOME], 2).tolist() == [[2.0, 4.0]] * 2
    assert where([nowhere], 2).shape == (0, 2)


def test_of_scores_the_lowest_of_so_many_in_a_row_counts() -> None:
    assert peaks(np.array([0.1, 0.9, 0.5, 0.2]), 2) == [0.5]
    assert peaks(np.array([0.1]), 2) == []


@pytest.mark.parametrize(
    "damage",
    [
        {"seen": "!"},
        {"seen": "AAAA"},
        {"seen": ""},
        {"seen": "AHw="},  # infinite
        {"logits": [0.0]},
        {"at": [3, 4, 40]},
        {"at": [-1, 4, 20]},
        {"frames": -1},
        {"frames": 10**12},
    ],
)
def test_damaged_numbers_are_no_impression(damage: dict[str, object]) -> None:
    adapter = TypeAdapter(Impression)
    whole = adapter.dump_python(SOME)
    assert adapter.validate_python(whole) == SOME
    with pytest.raises(ValidationError):
        adapter.validate_python(whole | damage)
