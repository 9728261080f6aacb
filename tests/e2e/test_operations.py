"""What docs/operations.md tells a fleet's owner to type is typed here, word for word but for host and ports."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.support.ports import free_port
from tests.support.programs import need
from tests.support.terminals import Terminals, commands_of
from tests.support.waiting import wait_for
from tests.support.world import WORD, accepts

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
LATER = "After the first month"
ELSEWHERE = (LATER, "From one server to three")
HUB = "hub.home"
BACKGROUND = {"mosquitto", "sarvis bridge", "sarvis edge", "sarvis app", "cd hub/operator"}


class Fleet(Terminals):
    """A server and two Jetsons on this machine."""

    def __init__(self, folder: Path) -> None:
        self.mqtt, self.http = free_port(), free_port()
        super().__init__(
            folder,
            {key: value for key, value in os.environ.items() if not key.startswith("SARVIS_")}
            | {
                "HOME": str(folder),
                "PYTHONUTF8": "1",
                "SARVIS_BRIDGE__PORT": str(self.http),
                "SARVIS_OPERATOR__URL": f"https://localhost:{self.http}",
                "SARVIS_EDGE__SOURCE": "stdin",
                "SARVIS_EDGE__HTTP_PORT": "0",
            },
        )
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def words(self, command: str) -> list[str]:
        command = command.removeprefix("sudo ").replace("/srv/", f"{self.folder}/srv/")
        command = command.replace(f"{HUB}:8000", f"localhost:{self.http}").replace(HUB, "localhost")
        words = shlex.split(command)
        if words[:3] == ["sarvis", "broker", "config"]:
            words += ["--port", str(self.mqtt), "--local-port", "0"]
        if words[0] == "sarvis":
            return [sys.executable, "-m", *words]
        return ["bash", "-c", f"exec bash -c {shlex.quote(command)}"] if words[0] == "cd" else words

    def type_in(self, command: str) -> str:
        """Type a command, and wait for its end if it has one; what it says."""
        name = next((name for name in BACKGROUND if command.startswith(name)), None)
        if name is None:
            done = subprocess.run(
                self.words(command),
                cwd=self.folder,
                env=self.env,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
            return done.stdout
        if name == "sarvis edge":
            name = command.rsplit(maxsplit=1)[-1].partition("/")[0]
        self.running[name] = self.start(name, self.words(command))
        return ""

    def last(self, name: str, words: str) -> str:
        """The last line of that terminal with these words in it; empty if there is none."""
        return next((line for line in reversed(self.lines[name]) if words in line), "")

    def say_the_word_at(self, device_id: str) -> None:
        word, rate = soundfile.read(WORD, dtype="int16")
        silence = np.zeros(rate, np.int16)
        stdin = self.running[device_id].stdin
        assert stdin is not None
        stdin.write(np.concatenate((silence, silence, silence, word, silence)).astype("<i2").tobytes())
        stdin.flush()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    need("mosquitto", "mosquitto_sub")
    it = Fleet(tmp_path)
    yield it
    it.close()


def test_from_nothing_to_two_jetsons_on_mosquitto_with_tls(fleet: Fleet) -> None:
    typed: list[str] = []

    def until(words: str) -> str:
        """Type all commands up to the one that begins with these words, too."""
        while True:
            command = commands[len(typed)]
            typed.append(command)
            told = fleet.type_in(command)
            if command.startswith("mosquitto"):
                wait_for("mosquitto's port", lambda: accepts(fleet.mqtt))
            if command.startswith("sarvis bridge"):
                fleet.sees("sarvis bridge", "mqtt_connected")
            if command.startswith(words):
                return told

    commands = commands_of(PAGE, without=ELSEWHERE)
    until("sarvis device add jetson-2")
    until("sarvis edge --config jetson-2")
    for device_id in ("jetson-1", "jetson-2"):
        fleet.sees(device_id, "connected")
    until("sarvis app")
    fleet.sees("sarvis app", "connected as alice")
    fleet.sees("jetson-1", "logged_in")
    fleet.say_the_word_at("jetson-1")
    fleet.sees("sarvis app", "RING: wake_up")
    fleet.sees("jetson-1", "status=acked")
    told = until("sarvis device list")
    assert "jetson-1" in told
    assert "jetson-2" in told
    until("cd hub/operator")
    fleet.sees("cd hub/operator", "devices/jetson-2/status")
    assert "alice" in until("sarvis sessions list")
    assert until("sarvis sessions logout alice").startswith("1 session of alice ended")
    fleet.sees("jetson-1", "logged_out")
    fleet.sees("sarvis app", "logged out")
    told = until("sarvis device remove jetson-2")
    assert "no user is logged in there now" in told
    assert "the broker was informed" in told
    fleet.sees("jetson-2", "disconnected")
    # Other devices say this and that meanwhile, and its last will may come between.
    wait_for(
        "its status is cleared", lambda: fleet.last("cd hub/operator", "devices/jetson-2/status").endswith("(null)")
    )
    assert "All that SARVIS needs holds." in until("sarvis broker check")
    assert typed == commands, "every command of the page was typed"
    assert "password" not in " ".join(fleet.lines["sarvis bridge"]).lower()
