"""What README tells people to type is typed here, word for word but for the ports."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ports import free_port
from tests.support.programs import needs
from tests.support.terminals import BLOCK, Terminals, commands_of

ROOT = Path(__file__).parents[2]


def commands() -> list[str]:
    return commands_of(ROOT / "README.md")


def answers() -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return [line for block in BLOCK.findall(text) for line in block.splitlines() if line.startswith("{")]


class House(Terminals):
    """README's processes, on ports of this test."""

    def __init__(self, folder: Path) -> None:
        self.mqtt, self.http, edge = free_port(), free_port(), free_port()
        super().__init__(
            ROOT,
            {key: value for key, value in os.environ.items() if not key.startswith("SARVIS_")}
            | {
                "HOME": str(folder),
                "PYTHONUTF8": "1",
                "SARVIS_BROKER__PORT": str(self.mqtt),
                "SARVIS_MQTT__URL": f"mqtt://127.0.0.1:{self.mqtt}",
                "SARVIS_BRIDGE__PORT": str(self.http),
                "SARVIS_APP__URL": f"ws://127.0.0.1:{self.http}",
                "SARVIS_EDGE__HTTP_PORT": str(edge),
            },
        )

    def type_in(self, command: str) -> subprocess.CompletedProcess[bytes]:
        words = shlex.split(command.replace("127.0.0.1:8000", f"127.0.0.1:{self.http}"))
        if words[0] == ".venv/bin/sarvis":
            words[:1] = [sys.executable, "-m", "sarvis"]
        if words[0].startswith("mosquitto_"):
            words[1:1] = ["-p", str(self.mqtt)]
        return subprocess.run(words, env=self.env, capture_output=True, check=True, timeout=120)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    it = House(tmp_path)
    yield it
    it.close()


def start_all(house: House) -> dict[str, subprocess.Popen[bytes]]:
    running = {}
    ready = {"broker": "listening", "bridge": "mqtt_connected", "app": "connected as alice", "edge": "listening"}
    for command in commands():
        words = shlex.split(command)
        if words[0] == ".venv/bin/sarvis" and words[1] in ready:
            running[words[1]] = house.start(words[1], [sys.executable, "-m", "sarvis", *words[1:]])
            house.sees(words[1], ready[words[1]])
    assert list(running) == ["broker", "bridge", "app", "edge"]
    return running


def test_the_four_processes_run_each_in_its_own_terminal(house: House) -> None:
    running = start_all(house)
    house.sees("app", "RING: wake_up")
    house.sees("edge", "status=acked")
    app = running["app"].stdin
    assert app is not None
    app.write(b"logout\n")
    app.flush()
    house.sees("edge", "logged_out")
    house.sees("edge", "standby")


@needs("mosquitto_sub", "mosquitto_pub", "curl")
def test_operators_watch_and_inject_and_older_callers_call(house: House) -> None:
    watching, *injecting = [shlex.split(line) for line in commands() if line.startswith("mosquitto_")]
    start_all(house)
    house.sees("edge", "logged_in")
    watching[1:1] = ["-p", str(house.mqtt)]
    house.start("watch", watching)
    house.sees("watch", "devices/jetson-1/status")
    house.type_in(shlex.join(injecting[0]))
    house.sees("watch", "sarvis/v1/devices/test-1/outcome")
    house.type_in(shlex.join(injecting[1]))
    house.sees("edge", "logged_out")
    calls = [line for line in commands() if line.startswith("curl")]
    assert [house.type_in(call).stdout.decode() for call in calls] == answers()
    house.sees("watch", "devices/legacy-http/wake")


def test_operators_see_who_is_logged_in_and_log_them_out(house: House) -> None:
    start_all(house)
    house.sees("edge", "logged_in")
    asked = [line for line in commands() if line.startswith(".venv/bin/sarvis sessions")]
    told = [house.type_in(command).stdout.decode() for command in asked]
    assert [command.split()[2] for command in asked] == ["list", "show", "logout"]
    assert all("jetson-1" in text and "alice" in text for text in told[:2])
    assert "opened" in told[1]
    assert told[2].startswith("1 session of alice ended")
    house.sees("edge", "logged_out")
