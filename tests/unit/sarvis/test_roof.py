import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from sarvis import roof
from sarvis.command_table import COMMANDS

HEAVY = {
    "alembic", "amqtt", "bcrypt", "cryptography", "fastapi", "httpx2", "jwt", "numpy", "onnxruntime", "paho",
    "prometheus_client", "pydantic", "rich", "sqlalchemy", "starlette", "structlog", "uvicorn",
    "uvloop", "websockets",
}  # fmt: skip
OF_OPTIONS = HEAVY - {"pydantic"}
"""typer itself converts a command's arguments by pydantic."""
READS = OF_OPTIONS - {"bcrypt"}

IMPORTED = """
import atexit, os, sys
from sarvis.cli import main
names = lambda: {name.partition(".")[0] for name in sys.modules}
atexit.register(lambda: os.write(2, ("imported " + " ".join(names())).encode()))
main()
"""


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    given = {key: value for key, value in os.environ.items() if not key.startswith(("SARVIS_", "_SARVIS"))}
    return {**given, "HOME": str(tmp_path), "PYTHONUTF8": "1"}


def sarvis(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    program = Path(sysconfig.get_path("scripts")) / "sarvis"
    return subprocess.run(
        [program, *arguments], env=env, cwd=env["HOME"], capture_output=True, text=True, check=False, timeout=60
    )


def complete(env: dict[str, str], words: str) -> list[str]:
    asked = {**env, "_SARVIS_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    return sarvis(asked).stdout.split()


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_says_what_the_command_itself_says(name: str) -> None:
    assert COMMANDS[name].help == roof.loaded(name).get_short_help_str(1000)


def test_help_lists_each_command_with_its_whole_line(env: dict[str, str]) -> None:
    shown = " ".join(sarvis(env, "--help").stdout.split())
    for name, command in COMMANDS.items():
        assert f"{name} {command.help}" in shown


def test_a_group_lists_its_commands_with_their_whole_line(env: dict[str, str]) -> None:
    shown = " ".join(sarvis(env, "sessions", "--help").stdout.split())
    for name, command in roof.loaded("sessions").commands.items():
        line = command.get_short_help_str(1000)
        assert len(line) > 30
        assert f"{name} {line}" in shown


@pytest.mark.parametrize(
    ("arguments", "forbidden"),
    [
        ("--version", HEAVY | {"typer"}),
        ("--help", HEAVY),
        ("brigde", OF_OPTIONS),
        ("token --help", OF_OPTIONS),
        ("token list", OF_OPTIONS),
        ("token rotate", OF_OPTIONS),
        ("device --help", READS),
        ("device list", READS),
        ("sessions --help", OF_OPTIONS),
        ("sessions list", OF_OPTIONS),
    ],
)
def test_a_command_imports_only_what_it_needs(env: dict[str, str], arguments: str, forbidden: set[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED, *arguments.split()],
        env=env, cwd=env["HOME"], capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    imported = set(done.stderr.rpartition("imported ")[2].split())
    assert {"infra", "sarvis"} <= imported, done.stderr
    assert imported & forbidden == set()


def test_a_misspelt_command_is_told_the_right_one(env: dict[str, str]) -> None:
    done = sarvis(env, "brigde")
    assert (done.returncode, done.stdout) == (2, "")
    assert "No such command 'brigde'. Did you mean 'bridge'?" in done.stderr


def test_a_command_without_its_extra_names_it(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text("raise ModuleNotFoundError('no', name='numpy')", encoding="utf-8")
    done = sarvis({**env, "PYTHONPATH": str(tmp_path)}, "edge")
    assert done.returncode == 3
    assert done.stderr == "error: sarvis edge needs numpy, which is not installed: pip install 'sarvis[edge]'\n"


def test_a_shell_completes_commands_and_their_options(env: dict[str, str]) -> None:
    assert complete(env, "sarvis ") == list(COMMANDS)
    assert complete(env, "sarvis se") == ["sessions"]
    assert complete(env, "sarvis token r") == ["revoke", "rotate"]
    assert complete(env, "sarvis sessions list --sto") == ["--store-url"]


def test_a_shell_completes_the_names_of_commands_whose_extra_is_missing(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text("raise ModuleNotFoundError('no', name='numpy')", encoding="utf-8")
    without = {**env, "PYTHONPATH": str(tmp_path)}
    assert complete(without, "sarvis ed") == ["edge"]
    assert complete(without, "sarvis edge --") == ["--help"]


@pytest.mark.parametrize(
    ("module", "late"),
    [("edge_node.cli", ("fastapi",)), ("bridge.cli", ("alembic", "contract.app_frames", "httpcore2"))],
)
def test_what_a_server_needs_later_is_not_loaded_at_its_start(module: str, late: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {*late} & {*loaded}


def test_garbage_is_collected_again_when_a_command_is_loaded(env: dict[str, str]) -> None:
    code = "import gc; gc.disable(); from sarvis import roof; roof.loaded('watch'); print(gc.isenabled())"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
