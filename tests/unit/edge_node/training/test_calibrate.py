import numpy as np
import pytest

from edge_node.training.calibrate import FALSE_ACCEPTS_PER_HOUR, folds, thresholds, thresholds_from_others
from edge_node.training.judge import Hour

pytestmark = pytest.mark.slow

FRAMES_PER_HOUR = 45_000


def hour(name: str, triggers: int, score: float, hours: float = 10.0) -> Hour:
    """Silence, and so many moments that reach a score for two frames."""
    scores = np.zeros(round(hours * FRAMES_PER_HOUR), np.float32)
    for number in range(triggers):
        scores[100 * (number + 1) : 100 * (number + 1) + 2] = score
    return Hour(name, scores)


def test_stricter_means_a_higher_threshold_and_no_more_false_accepts_than_allowed() -> None:
    heard = [hour("one", 40, 0.6), hour("two", 4, 0.9)]
    fixed = thresholds(heard, 2)
    assert fixed["lenient"] <= fixed["normal"] <= fixed["strict"]
    assert fixed["strict"] > 0.9, "4 in 20 hours are more than it may cost"
    assert fixed["normal"] > 0.6


def test_packages_go_into_folds_of_about_the_same_length() -> None:
    parts = folds({"a": 5.0, "b": 4.0, "c": 3.0, "d": 2.0}, 2)
    assert sorted(map(sorted, parts)) == [["a", "d"], ["b", "c"]]


def test_a_package_is_judged_by_thresholds_of_the_others_only() -> None:
    """A loud package beside a quiet one: its own triggers must not raise its threshold."""
    found = thresholds_from_others([hour("quiet", 0, 0.0), hour("loud", 50, 0.8)], 2, 2)
    assert list(found) == ["quiet", "loud"]
    assert {name: rate.events for name, rate in found["loud"].items()} == dict.fromkeys(FALSE_ACCEPTS_PER_HOUR, 50)
    assert {rate.events for rate in found["quiet"].values()} == {0}
    assert found["loud"]["normal"].hours == pytest.approx(10.0)
