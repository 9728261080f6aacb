import json
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given

from bridge.storage.news import (
    BehindError,
    HistoryError,
    NewsCursor,
    UnknownNewsError,
    changes_in,
    is_news,
    text_of,
)
from bridge.storage.records import Change, Session
from tests.support.changes import CHANGES

ENDED = Session("s1", "jetson", "alice", 1, "app")


@given(CHANGES.filter(is_news))
def test_a_change_comes_back_as_it_was(change: Change) -> None:
    assert changes_in(text_of([change])) == [change]


@pytest.mark.parametrize("said", [[["a later kind", {}]], [["session", {"later": 1}]], [["session"]], 1])
def test_what_a_later_version_wrote_is_not_guessed(said: object) -> None:
    with pytest.raises(UnknownNewsError):
        changes_in(json.dumps(said))


@dataclass(frozen=True)
class Told:
    number: int
    run: str
    changes: str = text_of([ENDED])


def numbers(cursor: NewsCursor, rows: Sequence[Told], turn: int) -> list[int]:
    return [news.number for news in cursor.read([row for row in rows if row.number >= cursor.first], turn)]


def test_the_news_of_others_are_read_once_in_the_order_of_turns() -> None:
    cursor = NewsCursor("mine", 3, 100)
    rows = [Told(3, "other"), Told(4, "other"), Told(5, "mine"), Told(7, "third")]
    assert numbers(cursor, rows[:3], 6) == [4]
    assert numbers(cursor, rows, 7) == [7]
    assert numbers(cursor, rows, 9) == []


def test_its_own_turn_is_news_if_it_was_told_that_it_failed() -> None:
    cursor = NewsCursor("mine", 3, 100)
    rows = [Told(4, "mine"), Told(5, "other")]
    cursor.unheard(4)
    assert numbers(cursor, rows, 5) == [4, 5]
    assert numbers(cursor, rows, 5) == []


def test_its_own_turn_is_news_also_after_it_has_read_a_later_one_of_its_own() -> None:
    cursor = NewsCursor("mine", 3, 100)
    rows = [Told(4, "other"), Told(5, "mine")]
    assert numbers(cursor, rows[:1], 4) == [4]
    cursor.unheard(5)
    assert numbers(cursor, rows, 5) == [5]


@pytest.mark.parametrize(
    ("rows", "turn"),
    [([Told(4, "other")], 3), ([], 5), ([Told(4, "mine")], 5), ([Told(5, "other")], 6)],
    ids=["earlier turn", "row gone", "another run's row", "later row only"],
)
def test_a_ledger_that_went_back_is_noticed(rows: list[Told], turn: int) -> None:
    cursor = NewsCursor("mine", 3, 100)
    assert numbers(cursor, [Told(4, "other")], 5) == [4]
    with pytest.raises(HistoryError):
        numbers(cursor, rows, turn)


def test_a_row_that_was_forgotten_for_its_age_is_no_sign_that_the_ledger_went_back() -> None:
    cursor = NewsCursor("mine", 3, 100)
    assert numbers(cursor, [Told(4, "other")], 5) == [4]
    assert numbers(cursor, [Told(4, "other")], 100) == []
    assert numbers(cursor, [], 110) == []


def test_a_bridge_that_stood_longer_than_news_are_kept_is_told_so() -> None:
    cursor = NewsCursor("mine", 3, 100)
    assert numbers(cursor, [], 103) == []
    with pytest.raises(BehindError):
        numbers(cursor, [], 204)
