"""What counts as a near-miss."""

import pytest

from edge_node.wakeword.near import LONGEST, NearMissCounter, NearMisses

SILENCE = [0.0] * 5


def fed(scores: list[float | None], threshold: float = 0.5, fired_at: int | None = None) -> NearMisses:
    counter = NearMissCounter()
    for number, score in enumerate(scores):
        counter.feed(score, threshold, fired=number == fired_at)
    return counter.found


@pytest.mark.parametrize(
    ("scores", "fired_at", "found"),
    [
        ([], None, NearMisses()),
        ([0.24] * 30, None, NearMisses()),
        ([0.3, 0.47, 0.2, *SILENCE], None, NearMisses(1, 0.47, 0.5)),
        ([0.3, None, 0.4, *SILENCE], None, NearMisses(1, 0.4, 0.5)),
        ([0.3, *SILENCE, 0.26, *SILENCE], None, NearMisses(2, 0.26, 0.5)),
        ([0.3, 0.6, 0.7, 0.3, *SILENCE], 2, NearMisses()),
        ([0.1, 0.1], 1, NearMisses()),
        ([0.9], None, NearMisses()),
        ([0.3] * 2 * LONGEST, None, NearMisses(2, 0.3, 0.5)),
    ],
)  # fmt: skip
def test_scores_of_half_the_threshold_that_led_to_no_wake_are_one(
    scores: list[float | None], fired_at: int | None, found: NearMisses
) -> None:
    assert fed(scores, fired_at=fired_at) == found
