import logging
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
import structlog
from pydantic import SecretStr
from structlog.testing import capture_logs

from contract.errors import SettingsError
from infra import secrets
from infra.credentials import Kind
from infra.redaction import redact
from infra.secrets import MAX_BYTES, read_secret, secret_of

SETTING = "mqtt.password_file"


@pytest.fixture(autouse=True)
def nothing_warned_yet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(secrets, "_warned", set())
    quiet = structlog.get_config()["wrapper_class"]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    yield
    structlog.configure(wrapper_class=quiet)


def keep(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("content", "secret"),
    [
        (b"s3cret", "s3cret"),
        (b"s3cret\n", "s3cret"),
        (b"s3cret\r\n", "s3cret"),
        (b"s3cret\n\n", "s3cret"),
        (b" s3cret ", "s3cret"),
        (b"\r\n\t s3cret\t\r\n \n", "s3cret"),
        (b"s3 cret", "s3 cret"),
        ("싸비스\n".encode(), "싸비스"),
        ("\ufeffs3cret\n".encode(), "s3cret"),
        ("s3cret\u200b\u00a0\u3000".encode(), "s3cret"),
        ("\ufeffs3cret\r\n".encode("utf-16-le"), "s3cret"),
        ("\ufeff싸비스\r\n".encode("utf-16-be"), "싸비스"),
        ("s3cret\n".encode("utf-32"), "s3cret"),
    ],
)
def test_what_an_editor_leaves_around_a_secret_is_no_part_of_it(tmp_path: Path, content: bytes, secret: str) -> None:
    assert read_secret(keep(tmp_path / "s", content), SETTING) == secret


KEY = "sarvis_0123_hunter2"


@pytest.mark.parametrize(
    ("kind", "content", "why"),
    [
        *[(kind, f"{KEY}\nmore", "more than one line") for kind in get_args(Kind)],
        *[(kind, f"{KEY}\r\n\r\n{KEY}", "more than one line") for kind in get_args(Kind)],
        *[(kind, f"{KEY}\u2028more", "more than one line") for kind in get_args(Kind)],
        *[(kind, f"{KEY}\x00", "control character") for kind in get_args(Kind)],
        *[(kind, f"hunter2\x1b[31m{KEY}", "control character") for kind in get_args(Kind)],
        *[(kind, f"hunter2\ufeff{KEY}", "control character") for kind in get_args(Kind)],
        *[(kind, " \ufeff\r\n", "is empty") for kind in get_args(Kind)],
        ("key", f"Bearer {KEY}", "without `Bearer`"),
        ("token", f"{KEY}\u00a0x", "without `Bearer`"),
        ("key", f"{KEY}é", "that a key cannot have"),
        ("key", f"싸{KEY}", "that a key cannot have"),
        ("token", f"{KEY},x", "that a token cannot have"),
    ],
)
def test_what_no_credential_can_hold_is_refused_by_setting_and_file_and_never_quoted(
    tmp_path: Path, kind: Kind, content: str, why: str
) -> None:
    path = keep(tmp_path / "s", content.encode())
    with pytest.raises(SettingsError, match=why) as raised:
        read_secret(path, SETTING, kind)
    assert SETTING in str(raised.value)
    assert str(path) in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_a_secret_that_was_read_is_told_by_no_text_from_then_on(tmp_path: Path) -> None:
    read_secret(keep(tmp_path / "s", b"read-from-a-file\n"), SETTING)
    secret_of(SecretStr("set-by-itself"), None, SETTING)
    assert redact("header b'read-from-a-file' or set-by-itself") == "header b'***' or ***"


@pytest.mark.parametrize("content", [b"", b"\n", b" \r\n", b"hunter2\xff", b"x" * (MAX_BYTES + 1)])
def test_a_file_without_a_usable_secret_is_named_with_its_setting_and_never_quoted(
    tmp_path: Path, content: bytes
) -> None:
    path = keep(tmp_path / "s", content)
    with pytest.raises(SettingsError, match=r"mqtt\.password_file") as raised:
        read_secret(path, SETTING)
    assert str(path) in str(raised.value)
    assert "hunter2" not in str(raised.value)
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


def test_a_missing_file_and_a_folder_are_named_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"mqtt\.password_file.*nowhere.*No such file"):
        read_secret(tmp_path / "nowhere", SETTING)
    with pytest.raises(SettingsError, match=r"mqtt\.password_file.*directory"):
        read_secret(tmp_path, SETTING)


def test_a_path_may_begin_at_the_users_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    keep(tmp_path / "s", b"s3cret")
    assert read_secret(Path("~/s"), SETTING) == "s3cret"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_secret_that_others_may_read_is_warned_about_once_without_being_told(tmp_path: Path, mode: int) -> None:
    path = keep(tmp_path / "s", b"s3cret", mode)
    with capture_logs() as lines:
        assert [read_secret(path, SETTING) for _ in range(3)] == ["s3cret"] * 3
    (line,) = lines
    assert (line["event"], line["log_level"], line["setting"]) == ("secret_readable_by_others", "warning", SETTING)
    assert "s3cret" not in str(line)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o610])
def test_a_secret_for_its_owner_alone_is_fine(tmp_path: Path, mode: int) -> None:
    with capture_logs() as lines:
        read_secret(keep(tmp_path / "s", b"s3cret", mode), SETTING)
    assert lines == []


def test_a_secret_comes_from_its_value_or_its_file_or_is_none(tmp_path: Path) -> None:
    path = keep(tmp_path / "s", b"from the file")
    assert secret_of(SecretStr("itself"), None, SETTING) == "itself"
    assert secret_of(None, path, SETTING) == "from the file"
    assert secret_of(None, None, SETTING) is None
