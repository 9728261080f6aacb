import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra import file_lock
from tests.support.waiting import wait_for

HOLDER = """
import sys
from infra import file_lock
file = open(sys.argv[1], "a")
assert file_lock.take(file.fileno())
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.lock"
    path.touch()
    return path


@contextmanager
def opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def test_a_lock_is_one_at_a_time_and_free_when_its_file_is_closed(path: Path) -> None:
    with opened(path) as second:
        with opened(path) as first:
            assert file_lock.take(first)
            assert file_lock.take(first)  # one that is held is no hindrance to its holder
            assert not file_lock.take(second)
            assert file_lock.is_taken(path)
        assert not file_lock.is_taken(path)
        assert file_lock.take(second)


def test_a_lock_of_a_process_that_was_killed_is_free(path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder, opened(path) as mine:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert file_lock.is_taken(path)
        assert not file_lock.take(mine)
        holder.kill()
        holder.wait()
        assert not file_lock.is_taken(path)
        assert file_lock.take(mine)


def test_with_patience_the_next_one_has_it_when_it_is_free(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(path) as waiting:
        first = os.open(path, os.O_RDWR)
        assert file_lock.take(first)
        pauses: list[float] = []

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) == 2:
                os.close(first)

        monkeypatch.setattr("infra.file_lock.time.sleep", pause)
        assert file_lock.take(waiting, patience_s=30.0)
        assert len(pauses) == 2


def test_who_waits_as_long_as_it_takes_has_it_when_it_is_free(path: Path) -> None:
    found: list[bool] = []
    with opened(path) as waiting:
        with opened(path) as first:
            assert file_lock.take(first)
            asking = threading.Thread(target=lambda: found.append(file_lock.take(waiting, patience_s=None)))
            asking.start()
            wait_for("the second asks", lambda: found or _is_waited_for(path))
            assert found == []
        asking.join(20)
        assert found == [True]
        assert file_lock.is_taken(path)


def _is_waited_for(path: Path) -> bool:
    lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    return any("->" in line and f":{path.stat().st_ino} " in line for line in lines)


def test_patience_ends(path: Path) -> None:
    with opened(path) as first, opened(path) as second:
        assert file_lock.take(first)
        assert not file_lock.take(second, patience_s=0.1)


def test_a_file_that_is_not_there_is_not_taken_and_not_made(tmp_path: Path) -> None:
    assert not file_lock.is_taken(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_locked_is_an_error_and_no_other_process(path: Path) -> None:
    with opened(path) as closed:
        pass
    with pytest.raises(OSError, match="Bad file descriptor"):
        file_lock.take(closed)
