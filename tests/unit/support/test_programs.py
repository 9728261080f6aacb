"""What a test needs beside Python, on a machine whose PATH this test makes up."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import debian
from tests.support.programs import missing_in, summary

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
ASKS = "pytest.skip(", "skipif(", "shutil.which(", "importorskip("

USES = """
import subprocess
from pathlib import Path

import pytest
from tests.support.programs import need, needs, program

def says():
    return subprocess.run(["curl"], check=True, capture_output=True, text=True).stdout

def test_names_nothing():
    says()

@needs("curl")
def test_names_it():
    assert says() == "here\\n"

def test_comes_after_one_that_names_it():
    says()

def test_names_it_where_it_is_used():
    need("curl")
    assert says() == "here\\n"
    assert Path(program("curl")).name == "curl"

def test_names_what_is_beside_bin():
    assert Path(program("nginx")).parent.name == "sbin"
"""
NEEDS = """
import pytest
from tests.support.programs import absent, need, needs, program

@needs("curl", "sox")
def test_two(): ...

@pytest.fixture(scope="module")
def deep():
    return program("chromium")

@pytest.mark.parametrize("time", range(3))
def test_deep(deep, time): ...

def test_other():
    absent("aedes", why="npm has: no network")

def test_passes(): ...
"""


class Machine:
    """A PATH with nothing but what a test puts there, a shell, and the tests that run on it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.bin, self.sbin = folder / "bin", folder / "sbin"
        self.bin.mkdir()
        self.sbin.mkdir()
        (self.bin / "sh").symlink_to("/bin/sh")

    def has(self, program: Path) -> None:
        program.write_text("#!/bin/sh\necho here\n")
        program.chmod(0o755)

    def runs(self, tests: str, *options: str, **settings: str) -> subprocess.CompletedProcess[str]:
        file = self._folder / "test_it.py"
        file.write_text(tests)
        line = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "-p", "tests.conftest"]
        line += ["-p", "no:cacheprovider", *options, str(file)]
        inherited = {
            key: value for key, value in os.environ.items() if key not in {"NO_SKIPPED_TESTS", "TESTS_THAT_NEED"}
        }
        environment = {**inherited, "PATH": str(self.bin), "PYTHONPATH": str(ROOT), **settings}
        return subprocess.run(
            line, cwd=self._folder, env=environment, capture_output=True, text=True, check=False, timeout=100
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_what_is_absent_is_told_in_the_last_line_with_the_command_that_installs_it(
    machine: Machine, workers: str
) -> None:
    done = machine.runs(NEEDS, "-n", workers)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == (
        "5 tests skipped; needed: aedes (1), chromium (3), curl (1), sox (1); "
        "as root: apt-get install chromium curl sox"
    )


def test_some_of_the_programs_are_enough_for_some_of_the_tests(machine: Machine) -> None:
    machine.has(machine.bin / "chromium")
    machine.has(machine.bin / "curl")
    done = machine.runs(NEEDS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "2 tests skipped; needed: aedes (1), sox (1); as root: apt-get install sox"


def test_nothing_is_said_where_nothing_is_skipped(machine: Machine) -> None:
    done = machine.runs("def test_it(): ...")
    assert "1 passed" in done.stdout.splitlines()[-1]


def test_where_nothing_may_be_skipped_it_fails(machine: Machine) -> None:
    done = machine.runs(NEEDS, NO_SKIPPED_TESTS="1")
    assert done.returncode == 1
    assert "1 failed, 1 passed, 4 errors" in done.stdout


def test_a_test_finds_a_program_only_if_it_names_it(machine: Machine, tmp_path: Path) -> None:
    machine.has(machine.bin / "curl")
    machine.has(machine.sbin / "nginx")
    needing = tmp_path / "needing"
    done = machine.runs(USES, TESTS_THAT_NEED=str(needing))
    failed = set(re.findall(r"^FAILED \S+::(\w+)", done.stdout, re.MULTILINE))
    assert failed == {"test_names_nothing", "test_comes_after_one_that_names_it"}, done.stdout
    assert done.stdout.count("a bare machine has no curl: write @needs('curl') above the test") == 2
    named = [line.rpartition("::")[2] for line in needing.read_text().splitlines()]
    assert named == ["test_names_it", "test_names_it_where_it_is_used", "test_names_what_is_beside_bin"]


def test_the_path_of_a_bare_machine_lacks_what_may_be_absent_and_nothing_else(tmp_path: Path) -> None:
    some, other = tmp_path / "some", tmp_path / "other"
    for file in (some / "curl", some / "cat", other / "sed"):
        file.parent.mkdir(exist_ok=True)
        file.write_text("")
        file.chmod(0o755)
    path = debian.bare_path(f"{some}{os.pathsep}{other}{os.pathsep}{tmp_path / 'none'}", tmp_path / "links")
    assert path.split(os.pathsep)[1:] == [str(other), str(tmp_path / "none")]
    assert [debian.find(name, path) is not None for name in ("curl", "cat", "sed")] == [False, True, True]


def test_a_bare_machine_is_told_every_package_and_this_one_what_it_lacks(tmp_path: Path) -> None:
    def told(*options: str, **settings: str) -> list[str]:
        line = [sys.executable, "-S", str(ROOT / "tests/support/debian.py"), *options]
        done = subprocess.run(line, env=settings, capture_output=True, text=True, check=True, timeout=60)
        return done.stdout.splitlines()

    (bare,) = told("--hide", str(tmp_path), PATH=os.environ["PATH"])
    assert set(debian.PROGRAMS.values()) <= set(told(PATH=bare))
    for name in debian.PROGRAMS:
        (tmp_path / "all").mkdir(exist_ok=True)
        (tmp_path / "all" / name).symlink_to("/bin/sh")
    assert set(told(PATH=str(tmp_path / "all"))) <= {*debian.LIBRARIES, *debian.PLUG_INS}


def test_hidden_libraries_are_not_found(tmp_path: Path) -> None:
    debian.hide_libraries(tmp_path / "site")
    ask = "from ctypes.util import find_library as of; print(of('c'), of('seccomp'), of('portaudio'))"
    line = [sys.executable, "-c", ask]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "libc.so.6 None None\n"


def test_a_reason_of_another_kind_is_counted_apart() -> None:
    assert missing_in("Skipped: the package has no wheel there") == []
    assert missing_in("Skipped: needs a, b: why: so") == ["a", "b"]
    assert summary(["needs root", "no wheel"]) == (
        "2 tests skipped; needed: root (1); 1 of them for other reasons, see above"
    )


def test_nothing_is_skipped_but_by_one_helper() -> None:
    own = {"tests/support/programs.py", "tests/support/debian.py", "tests/unit/support/test_programs.py"}
    # Tools that are started by hand say what is missing in their own words.
    tools = {"tools/bench/npm.py", "tools/bench/floor.py", "tools/conformance/suite.py"}
    version = {"tests/unit/edge_node/wakeword/test_foreign_heads.py"}  # a package has no wheel for later Pythons
    asking = {
        str(file.relative_to(ROOT))
        for file in (ROOT / "tests").rglob("*.py")
        if any(word in file.read_text(encoding="utf-8") for word in ASKS)
    }
    assert asking - own - tools == version
