import os
from collections.abc import Callable
from pathlib import Path

import pytest

from contract.errors import SettingsError
from infra import files
from infra.watched_file import NOTHING, WatchedFile, identity
from tests.support.clock import ManualClock

Change = Callable[[Path], object]


class Reader:
    """Reads texts of two files; one that is `bad` is none."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock()
        self.one, self.other = folder / "one", folder / "other"
        self.texts: list[str] = []
        self.tries = 0
        self.is_full = False
        self.file = WatchedFile(self.one, self.other, read=self._read, now=self.clock.monotonic, every_s=1.0)

    def _read(self) -> None:
        self.tries += 1
        if self.is_full:
            raise OSError(24, "Too many open files")
        texts = [path.read_text() for path in (self.one, self.other)]
        if "bad" in texts:
            raise SettingsError("it is bad")
        self.texts = texts


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    made = Reader(tmp_path)
    made.one.write_text("a")
    made.other.write_text("b")
    made.file.open()
    return made


def test_a_file_that_has_not_changed_is_not_read_again(reader: Reader) -> None:
    assert [reader.file.look() for _ in range(3)] == [NOTHING] * 3
    assert (reader.tries, reader.file.is_changed()) == (1, False)


def _written(path: Path) -> None:
    path.write_text("longer")


def _replaced_with_one_of_the_same_size_and_time(path: Path) -> None:
    before = path.stat()
    files.write(path, "c")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _written_in_place_with_the_same_size(path: Path) -> None:
    before = path.stat()
    path.write_text("c")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))


def _longer_at_the_same_time(path: Path) -> None:
    before = path.stat()
    path.write_text("longer")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES: list[Change] = [
    _written,
    _replaced_with_one_of_the_same_size_and_time,
    _written_in_place_with_the_same_size,
    _longer_at_the_same_time,
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["one", "other"])
def test_each_of_the_files_is_seen_to_change(reader: Reader, name: str, change: Change) -> None:
    path: Path = getattr(reader, name)
    change(path)
    assert reader.file.is_changed()
    assert reader.file.look().is_new
    assert path.read_text() in reader.texts
    assert not reader.file.is_changed()
    assert reader.file.look() == NOTHING


def test_what_cannot_be_read_keeps_the_old_value_and_is_told_once(reader: Reader) -> None:
    reader.one.write_text("bad")
    looks = [reader.file.look() for _ in range(3)]
    assert [str(look.problem) for look in looks] == ["it is bad", "None", "None"]
    assert not any(look.is_new for look in looks)
    assert reader.texts == ["a", "b"]


def test_another_problem_is_told_too_and_the_same_one_again_after_a_good_file(reader: Reader) -> None:
    told = []
    for text in ("bad", None, "good", "bad"):
        if text is None:
            reader.one.unlink()
        else:
            reader.one.write_text(text)
        told += [type(reader.file.look().problem) for _ in range(2)]
    nothing = type(None)
    assert told == [SettingsError, nothing, FileNotFoundError, nothing, nothing, nothing, SettingsError, nothing]
    assert reader.texts == ["good", "b"]


def test_a_file_that_failed_without_its_own_fault_is_tried_again(reader: Reader) -> None:
    reader.one.write_text("new")
    reader.is_full = True
    assert reader.file.look().problem is not None
    assert not reader.file.is_changed()
    reader.is_full = False
    assert reader.file.look().is_new
    assert reader.texts == ["new", "b"]


def test_the_file_before_put_back_is_no_problem_any_more(reader: Reader, tmp_path: Path) -> None:
    reader.one.rename(tmp_path / "kept")
    reader.one.write_text("bad")
    assert reader.file.look().problem is not None
    (tmp_path / "kept").rename(reader.one)
    assert reader.file.look() == NOTHING
    reader.one.write_text("bad")
    assert reader.file.look().problem is not None


def test_a_file_that_is_replaced_while_it_is_read_is_read_once_more(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    texts: list[str] = []

    def read() -> None:
        texts.append(path.read_text())
        if len(texts) == 1:
            path.write_text("newer")

    file = WatchedFile(path, read=read)
    file.open()
    assert file.look().is_new
    assert texts == ["old", "newer"]


def test_a_first_reading_that_fails_is_raised(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    with pytest.raises(FileNotFoundError):
        reader.file.open()
    assert not reader.file.is_there


def test_a_file_that_was_never_there_is_not_tried_until_it_comes(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    assert reader.file.look() == NOTHING
    assert reader.tries == 0
    reader.one.write_text("a")
    reader.other.write_text("b")
    assert reader.file.look().is_new
    assert reader.file.is_there


def test_a_look_is_good_for_its_time(reader: Reader) -> None:
    assert reader.file.is_due()
    reader.file.look()
    assert not reader.file.is_due()
    reader.clock.advance(0.9)
    assert not reader.file.is_due()
    reader.clock.advance(0.1)
    assert reader.file.is_due()


def test_what_can_be_no_file_is_not_there(tmp_path: Path) -> None:
    assert identity(tmp_path / "none") is None
    assert identity(Path("\0")) is None
    assert identity(Path("~nobody-of-this-name/file")) is None
