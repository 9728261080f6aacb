"""A real sound server with nothing but a sink that records what is played into it: a room without a room."""

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.waiting import wait_for

TIMEOUT_S = 30.0
PROGRAMS = ("pulseaudio", "pactl", "paplay", "parec")


@dataclass(frozen=True)
class SoundServer:
    """PulseAudio; PortAudio sees its microphone as device `pulse`.

    Attributes:
        env: what a process needs to find it.
    """

    process: subprocess.Popen[bytes]
    env: Mapping[str, str]

    def pactl(self, *arguments: str) -> None:
        self._run("pactl", *arguments)

    def play(self, file: Path) -> None:
        """Into the room, to its end."""
        self._run("paplay", str(file))

    def _run(self, *command: str) -> None:
        env = {**os.environ, **self.env}
        subprocess.run(command, check=True, timeout=TIMEOUT_S, stdout=subprocess.DEVNULL, env=env)


@contextmanager
def sounding(home: Path) -> Iterator[SoundServer]:
    """In a folder whose path is short: a socket's path may have 108 bytes."""
    home.chmod(0o700)
    env = dict.fromkeys(("HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_STATE_HOME"), str(home))
    env["PULSE_SERVER"] = f"unix:{home}/native"
    inherited = {name: value for name, value in os.environ.items() if name != "DBUS_SESSION_BUS_ADDRESS"}
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                "pulseaudio",
                "-n",
                "--daemonize=no",
                "--exit-idle-time=-1",
                "--use-pid-file=no",
                "--realtime=no",
                "--high-priority=no",
                f"--load=module-native-protocol-unix auth-anonymous=1 socket={home}/native",
                "--load=module-null-sink sink_name=room",
            ],
            stdout=log,
            stderr=log,
            env={**inherited, **env},
        )
    server = SoundServer(process, env)
    try:
        wait_for("pulseaudio's start", lambda: process.poll() is not None or _answers({**inherited, **env}), TIMEOUT_S)
        assert process.poll() is None, (home / "log").read_text()
        server.pactl("set-default-source", "room.monitor")
        yield server
    finally:
        process.kill()
        process.wait(TIMEOUT_S)


def _answers(env: Mapping[str, str]) -> bool:
    command = ["pactl", "info"]
    return subprocess.run(command, check=False, capture_output=True, timeout=TIMEOUT_S, env=env).returncode == 0
