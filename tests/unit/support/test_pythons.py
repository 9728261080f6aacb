"""`scripts/pythons`: which Pythons are declared, and which interpreter of each a machine has."""

import os
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tools.pythons.interpreters import declared, find, version_of
from tools.wheels.closure import Closure, Machine, pins, roots

ROOT = Path(__file__).parents[3]
PYPROJECT = ROOT / "pyproject.toml"
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
EXTRAS = ("edge", "train", "nats", "push", "test", "dev")


def interpreter(path: Path, version: str) -> Path:
    """A program that answers as a Python of that version does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {version}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def pyenv(home: Path, *versions: str) -> dict[str, str]:
    for version in versions:
        minor = version.rpartition(".")[0]
        interpreter(home / ".pyenv" / "versions" / version / "bin" / f"python{minor}", minor)
    return {"PATH": str(home / "bin"), "HOME": str(home)}


def test_the_declared_pythons_are_in_order_and_begin_with_pips_oldest() -> None:
    text = PYPROJECT.read_text(encoding="utf-8")
    assert declared(PYPROJECT) == sorted(declared(PYPROJECT), key=lambda one: int(one.split(".")[1]))
    assert f'requires-python = ">={declared(PYPROJECT)[0]}"' in text
    assert HERE in declared(PYPROJECT)


def test_versions_are_ordered_as_numbers(tmp_path: Path) -> None:
    lines = [f'"Programming Language :: Python :: 3.{minor}"' for minor in (13, 9, 11)]
    (tmp_path / "pyproject.toml").write_text(f"[project]\nclassifiers = [{', '.join(lines)}]\n", encoding="utf-8")
    assert declared(tmp_path / "pyproject.toml") == ["3.9", "3.11", "3.13"]


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/install-jetson.md"])
def test_pages_name_no_python_that_is_not_declared(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    named = set(re.findall(r"Python (3\.\d+)", text)) - {"3.10"}  # that of Ubuntu 22.04, which is too old
    assert named <= set(declared(PYPROJECT))


def test_ci_runs_them() -> None:
    assert "scripts/pythons" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_this_python_is_found_and_tells_its_version() -> None:
    assert version_of(Path(sys.executable)) == HERE
    bin_folder = str(Path(sys.executable).parent)
    found = find(HERE, {"PATH": bin_folder, "HOME": "/nonexistent"})
    assert found is not None
    assert found.parent == Path(bin_folder)


def test_a_shim_that_does_not_run_is_passed_over_for_the_newest_of_pyenv(tmp_path: Path) -> None:
    environ = pyenv(tmp_path, "3.12.9", "3.12.10", "3.13.1")
    shim = interpreter(tmp_path / "bin" / "python3.12", "3.12")
    shim.write_text("#!/bin/sh\necho 'pyenv: python3.12: command not found' >&2\nexit 127\n", encoding="utf-8")
    assert find("3.12", environ) == tmp_path / ".pyenv/versions/3.12.10/bin/python3.12"


def test_what_is_on_path_comes_first_also_under_its_short_name(tmp_path: Path) -> None:
    environ = pyenv(tmp_path, "3.12.10")
    there = interpreter(tmp_path / "bin" / "python3", "3.12")
    assert find("3.12", environ) == there


def test_python3_of_another_version_is_not_taken(tmp_path: Path) -> None:
    environ = pyenv(tmp_path)
    interpreter(tmp_path / "bin" / "python3", "3.11")
    assert find("3.12", environ) is None


def told(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools.pythons", *arguments]
    return subprocess.run(command, cwd=ROOT, env=os.environ | environ, capture_output=True, text=True, check=False)


def test_a_python_that_is_not_there_is_named_and_is_no_failure(tmp_path: Path) -> None:
    done = told("--only", "3.13", PATH=str(tmp_path), HOME=str(tmp_path), PYENV_ROOT="", UV_PYTHON_INSTALL_DIR="")
    assert done.returncode == 0
    assert done.stdout.splitlines()[-3:] == [
        "Python 3.11: left out",
        "Python 3.12: left out",
        "Python 3.13: not found on this machine",
    ]


def test_a_python_that_is_not_declared_is_an_error_of_usage() -> None:
    done = told("--only", "3.10")
    assert done.returncode == 2
    assert "3.10: declared are 3.11, 3.12, 3.13" in done.stderr


@pytest.mark.parametrize("passes", [True, False])
def test_the_verdict_is_that_of_the_tests_in_an_environment_of_its_own(passes: bool, tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    script = tmp_path / "scripts" / "test"
    script.write_text(f'#!/bin/sh\necho "$VENV $PYTHON $*"\nexit {0 if passes else 1}\n', encoding="utf-8")
    script.chmod(0o755)
    (tmp_path / "pyproject.toml").write_bytes(PYPROJECT.read_bytes())
    (tmp_path / "tools").symlink_to(ROOT / "tools")
    there = interpreter(tmp_path / "bin" / "python3.13", "3.13")
    environ = os.environ | {"PATH": f"{there.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    code = f"""
import pathlib, sys, tools.pythons.__main__ as it
it.ROOT = pathlib.Path({str(tmp_path)!r})
sys.exit(it.main())
"""
    command = [sys.executable, "-c", code, "--only", "3.13", "--", "-q"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert f".venv-3.13 {there} --quick -q" in done.stdout
    verdict = done.stdout.splitlines()[-1]
    assert verdict.startswith(f"Python 3.13: {'passed' if passes else 'FAILED'} in ")
    assert done.returncode == (0 if passes else 1)


def installed(versions: dict[str, str]) -> dict[str, tuple[str | None, list[Requirement]]]:
    found: dict[str, tuple[str | None, list[Requirement]]] = {}
    for name in versions:
        try:
            found[name] = ("a.whl", [Requirement(line) for line in metadata.requires(name) or []])
        except metadata.PackageNotFoundError:
            found[name] = (None, [])
    return found


def test_each_package_that_is_installed_has_a_version_in_the_constraints() -> None:
    machine = Machine(HERE, 17, platform.machine())
    closure = Closure(machine, pins((ROOT / "constraints.txt").read_text(encoding="utf-8"), machine))
    needed = [one for extra in EXTRAS for one in roots(PYPROJECT, machine, extra)]
    closure.follow((one for one in needed if one.name != "sarvis"), installed)
    assert "hatchling" in closure.wheels
