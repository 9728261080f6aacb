"""Constants of the product that are set for a test."""

import pytest

from tests.support import waiting
from tests.support.altered import alter


def test_each_constant_that_is_named_has_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PATIENCE_S", "LOOK_EVERY_S"):
        monkeypatch.setattr(waiting, name, 1.0)  # as it was, afterwards
    monkeypatch.setenv("ALTERED", "tests.support.waiting:PATIENCE_S=7 tests.support.waiting:LOOK_EVERY_S=0.5")
    alter()
    assert (waiting.PATIENCE_S, waiting.LOOK_EVERY_S) == (7.0, 0.5)


def test_a_constant_that_is_none_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALTERED", "tests.support.waiting:NO_SUCH_S=1")
    with pytest.raises(AttributeError, match="NO_SUCH_S"):
        alter()


def test_without_a_name_nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ALTERED", raising=False)
    alter()
