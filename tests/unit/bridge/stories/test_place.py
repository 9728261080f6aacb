"""Where the stories' file is, by the settings."""

from pathlib import Path

import pytest

from bridge.stories.place import ELSEWHERE, place_of
from infra.settings.bridge import BridgeSettings, StoreSettings
from infra.settings.loader import Settings


def test_it_is_beside_a_ledger_that_is_a_file_or_where_the_setting_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    beside = StoreSettings(url=f"sqlite:///{tmp_path}/hub/ledger.db")
    database = StoreSettings(url="postgresql://sarvis@db.home:5432/sarvis")
    named = BridgeSettings(stories_file=tmp_path / "named.db")
    assert place_of(Settings(store=beside)) == tmp_path / "hub" / "ledger-stories.db"
    assert place_of(Settings(store=database)) == ELSEWHERE.expanduser()
    for store in (beside, database):
        assert place_of(Settings(store=store, bridge=named)) == tmp_path / "named.db"
