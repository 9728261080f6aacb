"""`sarvis demo` as a user runs it."""

import os
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.processes import run_sarvis
from tests.support.waiting import wait_for

NEAR_MISS = Path(__file__).parents[1] / "data" / "jarvis_near_miss.wav"
STEPS = (
    "connection_established", "heartbeat_ack", "heard «싸비스»", "voice_command", "outcome acked", "kill -9",
    "logged out", "led standby", "logout confirmed", "All of it happened",
)  # fmt: skip

Ended = subprocess.CompletedProcess[str]


class Demo:
    """One run of the demo, whose temporary folders and home lie in a folder of its own."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        self.home = folder / "home"
        self.home.mkdir()
        # The user's environment must not matter, and a demo takes its own settings.
        settings = {"TMPDIR": str(self.temporary), "HOME": str(self.home), "SARVIS_BRIDGE__HEARTBEAT_TIMEOUT_S": "1"}
        # As few open files as some systems allow: each process starts with them, and serves.
        self.ended = run_sarvis("demo", *arguments, cwd=folder, settings=settings, within_s=200, files="256")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, "Future[Demo]"]]:
    """Both demos at the same time: a demo mostly waits."""
    with ThreadPoolExecutor(2) as pool:
        yield {
            "word": pool.submit(Demo, tmp_path_factory.mktemp("word")),
            "near miss": pool.submit(Demo, tmp_path_factory.mktemp("miss"), "--wav", str(NEAR_MISS)),
        }


def processes_that_name(text: str) -> list[str]:
    """The command lines of all processes that have the text in theirs or in their working folder."""
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        try:
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            folder = str((process / "cwd").readlink())
        except OSError:
            continue  # it ended meanwhile
        if text in line or text in folder:
            found.append(line)
    return found


def test_everything_happens_in_its_order(runs: dict[str, "Future[Demo]"]) -> None:
    ended = runs["word"].result().ended
    assert ended.returncode == 0, ended.stdout + ended.stderr
    at = -1
    for step in STEPS:
        at = ended.stdout.find(step, at + 1)
        assert at >= 0, f"{step} is missing or too early in\n{ended.stdout}"
    assert ended.stderr == ""


def test_nobody_is_logged_out_before_the_time_out(runs: dict[str, "Future[Demo]"]) -> None:
    told = runs["word"].result().ended.stdout
    silence = re.search(r"([\d.]+) s after the last heartbeat", told)
    assert silence is not None, told
    assert float(silence[1]) >= 5.0


def test_another_word_is_not_heard(runs: dict[str, "Future[Demo]"]) -> None:
    ended = runs["near miss"].result().ended
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "not heard" in ended.stdout
    assert NEAR_MISS.name in ended.stdout
    assert "voice_command" not in ended.stdout
    assert "Traceback" not in ended.stdout + ended.stderr


@pytest.mark.parametrize("run", ["word", "near miss"])
def test_a_pipe_gets_no_escape_codes(runs: dict[str, "Future[Demo]"], run: str) -> None:
    assert "\x1b" not in runs[run].result().ended.stdout


@pytest.mark.parametrize("run", ["word", "near miss"])
def test_no_process_of_it_is_left(runs: dict[str, "Future[Demo]"], run: str) -> None:
    temporary = runs[run].result().temporary
    wait_for("its processes are gone", lambda: not processes_that_name(str(temporary)))


@pytest.mark.parametrize("run", ["word", "near miss"])
def test_no_file_of_it_is_left(runs: dict[str, "Future[Demo]"], run: str) -> None:
    demo = runs[run].result()
    assert list(demo.temporary.iterdir()) == []
    assert list(demo.home.rglob("sarvis")) == []


@pytest.mark.parametrize("name", ["notes.txt", "absent.wav"])
def test_a_file_that_is_no_recording_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.txt").write_text("milk, bread")
    ended = run_sarvis("demo", "--wav", name, cwd=tmp_path)
    assert ended.returncode == 2
    assert name in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""
