"""Programs that start others, and what is left of them: real processes, told apart by how long they sleep."""

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_node.child_process import Child, how_it_ended, last_line
from tests.support.running import kill, running
from tests.support.waiting import wait_for

_NUMBERS = itertools.count(1)


@pytest.fixture
def sleep() -> Iterator[str]:
    """A command that runs for an hour, and that no other test runs."""
    words = f"sleep 36{os.getpid()}.{next(_NUMBERS)}"
    yield words
    kill(words)


def begun(script: str, sleep: str, count: int) -> Child:
    """A shell with this script, when so many of its commands run."""
    child = Child(["sh", "-c", script.format(sleep=sleep)])
    wait_for("its commands", lambda: len(asleep(sleep)) == count)
    return child


def asleep(sleep: str) -> set[int]:
    """The commands themselves, not the shells that were told of them."""
    return running(sleep, "sleep")


@pytest.mark.parametrize(
    ("script", "count"),
    [
        ("{sleep}", 1),
        ("{sleep} | {sleep} | {sleep}", 3),
        ("{sleep} & {sleep} & wait", 2),
        ("{sleep} & exit 3", 1),
        ("({sleep} & {sleep} &) & exit 0", 2),
        ("trap '' TERM; {sleep}; {sleep}", 1),
        ("trap '' TERM HUP INT; {sleep} | {sleep}; :", 2),
        ("setsid {sleep} & exit 0", 1),
        ("setsid sh -c 'trap \"\" TERM; {sleep}; :' | {sleep}", 2),
        ("nohup {sleep} > /dev/null 2>&1 & exit 0", 1),
    ],
)
def test_all_that_a_program_has_started_ends_with_it(script: str, count: int, sleep: str) -> None:
    child = begun(script, sleep, count)
    began = time.monotonic()
    child.end(0.3)
    assert not running(sleep)
    assert time.monotonic() - began < 20.0
    child.end()


def test_a_program_that_was_stopped_ends_too(sleep: str) -> None:
    child = begun("{sleep} | {sleep}", sleep, 2)
    for pid in asleep(sleep):
        os.kill(pid, signal.SIGSTOP)
    child.end(0.3)
    assert not running(sleep)


def test_a_program_that_obeys_has_time_to_tidy_up(tmp_path: Path, sleep: str) -> None:
    done = tmp_path / "done"
    child = begun(f"trap 'sleep 0.2; echo > {done}; exit 0' TERM; {{sleep}} & wait", sleep, 1)
    child.end(10.0)
    assert done.exists()
    assert child.wait(0.0) == 0


def test_a_program_that_has_ended_by_itself_says_how() -> None:
    child = Child(["sh", "-c", "exit 7"])
    assert child.wait(20.0) == 7
    assert not child.lives()
    child.end()


def test_another_group_is_left_alone(sleep: str) -> None:
    with subprocess.Popen(sleep.split(), start_new_session=True) as other:
        child = Child(["sleep", "0.01"])
        child.end()
        assert other.poll() is None
        other.kill()


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), signal.SIGKILL)", "sys.exit(0)", "os._exit(1)", "1 / 0"])
def test_a_killed_process_leaves_no_child_programs(end: str, sleep: str) -> None:
    code = (
        "import os, signal, sys\nfrom edge_node.child_process import Child\n"
        f"Child(['sh', '-c', \"trap '' TERM; {sleep} | {sleep}; :\"])\nsys.stdin.read(1)\n{end}"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        wait_for("the program", lambda: len(asleep(sleep)) == 2)
        process.communicate(b"x")
    wait_for("its end", lambda: not asleep(sleep))


@pytest.mark.parametrize(
    ("status", "told"),
    [(0, "ended with status 0"), (3, "ended with status 3"), (-15, "was ended by SIGTERM"), (-99, "by signal 99")],
)
def test_how_a_program_ended_is_said_in_words(status: int, told: str) -> None:
    assert told in how_it_ended(status)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"", ""),
        (b"one\ntwo\n\n", "two"),
        (b"1 %\r2 %\r", "2 %"),
        (b"rtsp://me:secret@camera/1: no", "rtsp://***@camera/1: no"),
        (b"\x1b[31mred\x07", "[31mred"),
        (b"x" * 5000, "x" * 200 + "…"),
        (b"\xff\xfe", "\ufffd\ufffd"),
    ],
)
def test_of_what_a_program_says_the_last_line_is_told_in_short_and_without_secrets(said: bytes, told: str) -> None:
    assert last_line(said) == told
