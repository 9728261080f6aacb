"""What a soak calls wrong."""

from typing import Any

from edge_node.wakeword.gate import Trigger
from tools.soak.verdict import judge

WAKES = [{"id": "a", "at_s": 4.08, "score": 0.9}, {"id": "b", "at_s": 9.2, "score": 0.71}]
TWINS = [Trigger(4.0800001, 0.90000001), Trigger(9.2, 0.71)]
FATES = {"a": "acked", "b": "acked"}


def wrong(**changed: Any) -> list[str]:
    given: dict[str, Any] = {
        "wakes": WAKES,
        "expected": TWINS,
        "fates": FATES,
        "rung": ["a", "b"],
        "memory_mib": [200.0] * 8,
    }
    return judge(**(given | changed)).wrong


def test_all_is_well() -> None:
    assert wrong() == []


def test_an_event_too_few_too_many_or_another_is_wrong() -> None:
    for expected in (TWINS[:1], [*TWINS, Trigger(20.0, 0.6)], [TWINS[0], Trigger(9.28, 0.71)], TWINS[::-1]):
        assert ["events differ" in words for words in wrong(expected=expected)] == [True]


def test_a_wake_without_an_outcome_is_a_fault() -> None:
    assert wrong(fates={"a": "acked", "b": "sent"}) == ["wakes that no app answered: {'sent': 1}"]
    assert wrong(fates={"a": "acked"}) == ["wakes that no app answered: {'none': 1}"]


def test_a_wake_that_rings_twice_or_never_is_wrong() -> None:
    for rung in (["a", "b", "b"], ["a"], ["a", "b", "c"]):
        assert ["the app rang" in words for words in wrong(rung=rung)] == [True]


def test_memory_that_grows_is_wrong_and_what_grows_at_the_start_is_not() -> None:
    assert wrong(memory_mib=[150, 190, 200, 200, 200, 201, 202, 203]) == []
    assert wrong(memory_mib=[200, 200, 200, 203, 206, 207, 208, 209]) == ["memory grew from 201.5 to 208.5 MiB"]
