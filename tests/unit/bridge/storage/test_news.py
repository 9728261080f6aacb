import json

import pytest
from hypothesis import given

from bridge.storage.news import UnknownNewsError, changes_in, is_news, text_of
from bridge.storage.records import Change
from tests.support.changes import CHANGES


@given(CHANGES.filter(is_news))
def test_a_change_comes_back_as_it_was(change: Change) -> None:
    assert changes_in(text_of([change])) == [change]


@pytest.mark.parametrize("said", [[["a later kind", {}]], [["session", {"later": 1}]], [["session"]], 1])
def test_what_a_later_version_wrote_is_not_guessed(said: object) -> None:
    with pytest.raises(UnknownNewsError):
        changes_in(json.dumps(said))
