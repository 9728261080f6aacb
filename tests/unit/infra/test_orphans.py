import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.running import kill, running
from tests.support.waiting import wait_for

DIES_BEFORE_IT_TELLS = """
import os, signal, subprocess
from infra.orphans import GUARD
subprocess.Popen(
    ["sh", "-c", "trap '' TERM; {sleep} & wait"], env={{**os.environ, **GUARD.environment()}}, start_new_session=True
)
os.kill(os.getpid(), signal.SIGKILL)
"""
ENDS_WELL = """
import os, subprocess
from infra.orphans import GUARD
done = subprocess.Popen(["true"], env={**os.environ, **GUARD.environment()}, start_new_session=True)
GUARD.watch(done.pid)
done.wait()
GUARD.forget(done.pid)
print(GUARD._process.pid)
"""


@pytest.fixture
def sleep() -> Iterator[str]:
    words = f"sleep 36{os.getpid()}.25"
    yield words
    kill(words)


def python(script: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=False)


def test_a_child_is_ended_though_its_parent_died_before_it_could_tell_of_it(sleep: str) -> None:
    assert python(DIES_BEFORE_IT_TELLS.format(sleep=sleep)).returncode == -9
    wait_for("the child's end", lambda: not running(sleep))


def test_a_guard_with_nothing_to_end_ends_at_once() -> None:
    done = python(ENDS_WELL)
    assert done.returncode == 0
    assert not Path("/proc", done.stdout.strip()).exists(), "it was waited for"
