"""Real processes in what hosting environments put around them: other users, other terminals, foreign variables."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.support.programs import need
from tests.support.waiting import wait_for

NOBODY = 54321
"""A user without an entry in passwd, as OpenShift starts containers with."""
_NO_ENTRY = """
import pwd
def nobody(_):
    raise KeyError
pwd.getpwuid = nobody
"""


def as_nobody(folder: Path) -> tuple[list[str], dict[str, str]]:
    """What to put before a command, and its environment without HOME."""
    folder.chmod(0o777)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path.cwd())}
    if os.geteuid() == 0:
        need("setpriv")
        # It may read everything, for this repository may be where only root can: but write nowhere.
        reading = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
        return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *reading], environment
    (folder / "sitecustomize.py").write_text(_NO_ENTRY)
    return [], {**environment, "PYTHONPATH": f"{folder}{os.pathsep}{Path.cwd()}"}


def run(
    folder: Path, *arguments: str, before: Sequence[str] = (), environment: Mapping[str, str], encoding: str = "utf-8"
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*before, sys.executable, "-m", "sarvis", *arguments],
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding=encoding,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("command", "setting"),
    [
        ("bridge --port 0", "store.url"),
        ("broker --port 0", "broker.dir"),
        ("edge --device-id x --source silence --http-port 0", "edge.state_dir"),
        ("token app alice", "auth.key_file"),
    ],
)
def test_a_user_without_a_home_is_told_the_setting_that_needs_one(tmp_path: Path, command: str, setting: str) -> None:
    before, environment = as_nobody(tmp_path)
    done = run(tmp_path, *command.split(), before=before, environment=environment)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: setting {setting}: ~/.local/state/sarvis/")
    assert line.endswith("set it to an absolute path")


def test_a_home_that_its_user_may_not_write_into_is_told_with_the_setting(tmp_path: Path) -> None:
    before, environment = as_nobody(tmp_path)
    home = tmp_path / "home"
    home.mkdir(0o555)
    done = run(tmp_path, "bridge", "--port", "0", before=before, environment={**environment, "HOME": str(home)})
    assert done.returncode == 2, done.stderr
    assert "setting store.url: ~/.local/state/sarvis/bridge/ledger.db cannot be made" in done.stderr
    assert f"may not write into {home}; set it to an absolute path" in done.stderr


def test_without_a_home_what_is_set_to_an_absolute_path_is_enough(tmp_path: Path) -> None:
    before, environment = as_nobody(tmp_path)
    settings = {
        "SARVIS_STORE__URL": f"sqlite:///{tmp_path}/ledger.db",
        "SARVIS_AUTH__KEY_FILE": f"{tmp_path}/signing.keys",
        "SARVIS_AUTH__MODE": "required",
        # What Kubernetes says of the service that this very process is.
        "SARVIS_BRIDGE_SERVICE_HOST": "10.0.0.7",
        "SARVIS_BRIDGE_SERVICE_PORT_HTTP": "8000",
        "SARVIS_BRIDGE_PORT": "tcp://10.0.0.7:8000",
        "SARVIS_BRIDGE_PORT_8000_TCP_ADDR": "10.0.0.7",
        "SARVIS_PORT": "tcp://10.0.0.1:8000",
    }
    with (tmp_path / "out").open("wb") as out:
        bridge = subprocess.Popen(
            [*before, sys.executable, "-m", "sarvis", "bridge", "--port", "0", "--mqtt-url", "mqtt://127.0.0.1:9/"],
            cwd=tmp_path,
            env={**environment, **settings},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for("it listens", lambda: "bridge listening" in (tmp_path / "out").read_text(encoding="utf-8"), 60)
    finally:
        bridge.send_signal(signal.SIGTERM)
        code = bridge.wait(60)
    assert code == 0, (tmp_path / "out").read_text(encoding="utf-8")
    assert (tmp_path / "ledger.db").exists()


TERMINALS = {
    "ASCII": {"PYTHONIOENCODING": "ascii"},
    "Latin-1": {"PYTHONIOENCODING": "latin-1"},
    "POSIX": {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}


@pytest.mark.parametrize("terminal", TERMINALS)
def test_a_terminal_that_is_not_utf_8_gets_every_text_and_json_stays_json(tmp_path: Path, terminal: str) -> None:
    foreign = ("SARVIS_", "PYTHON", "LC_", "LANG")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(foreign)},
        **TERMINALS[terminal],
        "SARVIS_STORE__URL": "sqlite:///ledger.db",
        "SARVIS_BROKER__DIR": "broker",
    }

    def told(*arguments: str) -> str:
        done = run(tmp_path, *arguments, environment=environment, encoding="latin-1")
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return done.stdout

    assert "Usage: sarvis" in told("--help")
    name = "싸비스 «1» 😀"
    if terminal == "POSIX":
        return  # an argument that is not ASCII comes as bytes of no encoding there
    (tmp_path / "ledger.db").touch()  # as `sarvis broker config` leaves it
    assert "log-outs are posted" in told("device", "add", "k", "--uid", name, "--logout-url", "http://127.0.0.1:5000/x")
    assert "DEVICE" in told("device", "list")
    # Whatever a terminal takes: letters that it lacks are written as JSON writes them.
    encoding = "utf-8" if terminal == "ASCII" else "latin-1"
    (listed,) = json.loads(told("device", "list", "--json").encode("latin-1").decode(encoding))["devices"]
    assert listed["assigned_uid"] == name
