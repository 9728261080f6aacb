"""`sarvis up`: what is wrong is said, and everything that was started ends."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from sarvis.up.folder import LOCK, PREFIX, temporary_folder
from sarvis.up.house import Wanted, house
from tests.support.processes import run_sarvis


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--uid", "a/b"), 2, "--uid"),
        (("--device-id", "no blank"), 2, "--device-id"),
        (("--source", "stdin"), 2, "--source stdin"),
        (("--source", "wav:none.wav"), 2, "none.wav"),
        (("--source", "wax:none.wav"), 2, "There is no audio source 'wax:none.wav'"),
    ],
)
def test_a_wrong_option_is_named(tmp_path: Path, arguments: tuple[str, ...], code: int, said: str) -> None:
    ended = run_sarvis("up", "--port", "0", *arguments, cwd=tmp_path, settings={"TMPDIR": str(tmp_path)}, within_s=120)
    assert ended.returncode == code, ended.stderr
    assert said in ended.stderr
    assert "starts: broker" not in ended.stdout, "nothing is started for it"
    assert list(tmp_path.iterdir()) == []


def test_it_ends_when_nothing_reads_what_it_prints(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sarvis", "up", "--port", "0"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as running:  # fmt: skip
        assert running.stdout is not None
        running.stdout.close()
        assert running.wait(100) == 128 + signal.SIGPIPE
    assert list(tmp_path.iterdir()) == []


async def test_a_taken_port_is_replaced(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with house(Wanted("alice", "jetson-1", "silence", port, lan=False), tmp_path) as running:
            assert running.link.startswith("http://127.0.0.1:")
            assert f":{port}/" not in running.link
    assert running.edge.process.returncode == 0


def test_a_folder_whose_owner_was_killed_is_removed_and_others_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left, unlocked, linked = (tmp_path / f"{PREFIX}{name}" for name in ("left", "unlocked", "linked"))
    for folder in (left, unlocked):
        folder.mkdir()
    (left / LOCK).touch()
    (left / "ledger.db").write_text("data")
    linked.symlink_to(left)
    with temporary_folder() as first:
        assert not left.exists()
        with temporary_folder() as second:
            assert {path.name for path in tmp_path.iterdir()} == {
                path.name for path in (first, second, unlocked, linked)
            }
    assert {path.name for path in tmp_path.iterdir()} == {unlocked.name, linked.name}
