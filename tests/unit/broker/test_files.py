import os
import threading
from pathlib import Path

import pytest

from broker import files
from contract.errors import SettingsError


def test_a_file_is_replaced_as_a_whole_with_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    files.write(path, "old")
    before = path.stat().st_ino
    files.write(path, b"new", files.PUBLIC)
    assert path.read_text() == "new"
    assert path.stat().st_ino != before  # who had it open still reads the old one
    assert path.stat().st_mode & 0o777 == 0o644
    assert os.listdir(tmp_path) == ["secret"]  # noqa: PTH208


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "users.json"
    files.write(path, "old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("broker.files.os.fsync", full)
    with pytest.raises(SettingsError, match="No space left"):
        files.write(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["users.json"]


def test_a_lock_is_one_at_a_time(tmp_path: Path) -> None:
    order: list[str] = []
    entered, may_leave = threading.Event(), threading.Event()

    def first() -> None:
        with files.locked(tmp_path):
            entered.set()
            may_leave.wait(10)
            order.append("first")

    def second() -> None:
        with files.locked(tmp_path):
            order.append("second")

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert entered.wait(10)
    threads[1].start()
    may_leave.set()
    for thread in threads:
        thread.join(10)
    assert order == ["first", "second"]


def test_a_lock_is_no_way_to_another_file(tmp_path: Path) -> None:
    """Root must not open, on behalf of the folder's owner, what the owner put there."""
    (tmp_path / "other").write_text("")
    (tmp_path / files.LOCK).symlink_to(tmp_path / "other")
    with pytest.raises(SettingsError), files.locked(tmp_path):
        pytest.fail("it followed the link")


def test_a_new_folder_is_closed_to_others_and_an_old_one_stays_as_it_is(tmp_path: Path) -> None:
    files.make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    (tmp_path / "shared").mkdir(mode=0o755)
    (tmp_path / "shared").chmod(0o755)
    files.make_folder(tmp_path / "shared")
    assert (tmp_path / "shared").stat().st_mode & 0o777 == 0o755


def test_what_root_writes_belongs_to_the_owner_of_the_folder(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        assert tmp_path.stat().st_uid == os.geteuid()  # then there is nobody else to write for
        return
    folder = tmp_path / "broker"
    folder.mkdir()
    os.chown(folder, 1234, 1234)
    files.write(folder / "users.json", "{}")
    files.make_folder(folder / "data")
    owners = {path.name: path.stat().st_uid for path in folder.iterdir()}
    assert owners == {"users.json": 1234, "data": 1234}


def test_what_cannot_be_read_is_told_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="nothing does not exist"):
        files.read(tmp_path / "nothing")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="UTF-8"):
        files.read(tmp_path / "bytes")
    with pytest.raises(SettingsError, match="directory"):
        files.read(tmp_path)
