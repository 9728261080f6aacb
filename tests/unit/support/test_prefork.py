"""A forked command is what it is when it is started from nothing. Real processes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.prefork import popen, preforked

pytestmark = pytest.mark.slow
"""It starts interpreters from nothing, which takes its time beside others."""

PROBE = """
import json, os, signal, sys, threading
print(json.dumps({
    "argv": sys.argv,
    "cwd": os.getcwd(),
    "environment": {name: value for name, value in os.environ.items() if name != "LC_CTYPE"},
    "files": sorted(os.listdir("/proc/self/fd"))[:4],
    "main": threading.current_thread() is threading.main_thread(),
    "name": __name__,
    "project": sorted({name.partition(".")[0] for name in sys.modules} & {"bridge", "broker", "contract", "infra"}),
    "parent": os.getppid(),
    "path": sys.path[0],
    "read": sys.stdin.read(),
    "signals": [str(signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)],
    "streams": [str(stream.encoding) + str(stream.line_buffering) for stream in (sys.stdin, sys.stdout, sys.stderr)],
}))
print("last words", file=sys.stderr)
sys.exit(3)
"""


@pytest.fixture(autouse=True)
def _forks() -> Iterator[None]:
    with preforked():
        yield


def probe(folder: Path, code: str = PROBE, **environment: str) -> "subprocess.Popen[bytes]":
    module = folder / "probe.py"
    if not module.exists():  # a process that was started just before may be reading it
        module.write_text(code)
    env = {**os.environ, "PYTHONUTF8": "1", "SARVIS_OF_A_TEST": "told", **environment}
    return popen([sys.executable, "-m", "probe", "one", "2"], cwd=folder, env=env, stdin=subprocess.PIPE)


def ended(process: "subprocess.Popen[bytes]") -> tuple[int, Any, bytes]:
    out, err = process.communicate(b"heard", timeout=60)
    assert out, (process.returncode, err)
    return process.returncode, json.loads(out), err


def test_a_forked_command_finds_what_it_would_find_from_nothing(tmp_path: Path) -> None:
    forked = probe(tmp_path)
    assert type(forked) is not subprocess.Popen
    fresh = probe(tmp_path, PYTHONHASHSEED="random")
    assert type(fresh) is subprocess.Popen, "an interpreter reads that when it starts"
    (code, found, err), (fresh_code, expected, fresh_err) = ended(forked), ended(fresh)
    del expected["environment"]["PYTHONHASHSEED"]
    assert (code, err) == (fresh_code, fresh_err) == (3, b"last words\n")
    assert found == expected
    assert found["parent"] == os.getpid()
    assert found["project"] == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_signal_that_ended_a_forked_command_is_told(tmp_path: Path, number: signal.Signals) -> None:
    with probe(tmp_path, "import time\nprint('on', flush=True)\ntime.sleep(60)") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"on\n"
        assert process.poll() is None
        process.send_signal(number)
        assert process.wait(20) == -number


def test_a_forked_command_that_fails_says_so(tmp_path: Path) -> None:
    with probe(tmp_path, "raise ValueError('a bug')") as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err.endswith(b"ValueError: a bug\n")


def test_what_is_no_module_is_started_from_nothing(tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONUTF8": "1"}
    with popen([sys.executable, "-c", "pass"], cwd=tmp_path, env=env, stdin=subprocess.DEVNULL) as other:
        assert type(other) is subprocess.Popen


def test_commands_that_threads_start_at_once_are_not_mixed_up(tmp_path: Path) -> None:
    """Each gets its own process id: else one waits for the other's end."""

    def run(number: int) -> tuple[int, bytes]:
        folder = tmp_path / str(number)
        folder.mkdir()
        with probe(folder, f"import sys; print({number}); sys.exit({number})") as process:
            out, _ = process.communicate(timeout=60)
        return process.returncode, out

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(run, range(16))) == [(number, b"%d\n" % number) for number in range(16)]
