from pathlib import Path

import pytest

from contract.errors import SettingsError
from infra.places import at_home, kept_at_home, where_at_home


def test_a_path_that_does_not_begin_at_home_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "expanduser", lambda _: pytest.fail("it looked for a home"))
    for path in (Path("/var/lib/sarvis"), Path("here"), Path("/not/there/at/all")):
        assert at_home(path, "x.y") == kept_at_home(path, "x.y") == path


def test_a_path_at_home_is_found_or_the_setting_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert kept_at_home(Path("~/a/b"), "x.y") == tmp_path / "a" / "b"
    with pytest.raises(SettingsError, match=r"setting x\.y: ~nobody-of-this-name/a .* absolute path"):
        kept_at_home(Path("~nobody-of-this-name/a"), "x.y")


def test_a_home_that_cannot_hold_it_is_named_with_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/proc")  # also root makes nothing there
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(SettingsError, match=r"setting x\.y: ~/a/b cannot be made.*absolute path"):
        kept_at_home(Path("~/a/b"), "x.y")
    assert at_home(Path("~/a/b"), "x.y") == Path("/proc/a/b")


def test_what_is_only_looked_for_is_nowhere_without_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert where_at_home(Path("~/a")) == tmp_path / "a"
    assert where_at_home(Path("~nobody-of-this-name/a")) is None
