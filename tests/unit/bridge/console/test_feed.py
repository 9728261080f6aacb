"""When a page is told to load itself again."""

from itertools import pairwise

import pytest

from bridge.console.feed import AGAIN_EVERY_S, AT_LATEST_S, SLOW_EVERY_S, WRITTEN_S, Again


def times(again: Again, signs: dict[float, int], until: float) -> list[float]:
    """At which times a page is told, which looks twice a second; `signs` change at these times."""
    found, sign, now = [], 0, 0.0
    while now <= until:
        sign = signs.get(now, sign)
        if again.is_due(sign, now):
            found.append(now)
        now += 0.5
    return found


def test_a_change_is_told_when_it_is_written() -> None:
    assert times(Again(AGAIN_EVERY_S, 0, 0.0), {10.0: 1}, 20.0) == [10.0 + WRITTEN_S]


def test_many_changes_are_told_together_and_the_last_one_is_not_lost() -> None:
    signs = {second / 2: second for second in range(20, 41)}
    told = times(Again(AGAIN_EVERY_S, 0, 0.0), signs, 30.0)
    assert told[0] == 11.0
    assert all(later - before >= AGAIN_EVERY_S for before, later in pairwise(told))
    assert 20.0 + WRITTEN_S <= told[-1] <= 20.0 + WRITTEN_S + AGAIN_EVERY_S


@pytest.mark.parametrize("every_s", [AGAIN_EVERY_S, SLOW_EVERY_S])
def test_without_a_change_a_page_is_loaded_again_now_and_then(every_s: float) -> None:
    assert times(Again(every_s, 0, 0.0), {}, 2 * AT_LATEST_S) == [AT_LATEST_S, 2 * AT_LATEST_S]


def test_a_slow_page_is_told_less() -> None:
    signs = {second / 2: second for second in range(200)}
    assert len(times(Again(SLOW_EVERY_S, 0, 0.0), signs, 90.0)) == 3
