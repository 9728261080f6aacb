"""A real sound server with a virtual microphone, recorded through PortAudio."""

import importlib
import io
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import numpy as np
import pytest

from contract.sections.edge import EdgeSettings
from edge_node.audio import SourceOptions, open_source
from edge_node.capture import Change, MicrophoneLostError
from edge_node.events import Events, Light
from edge_node.gate import Gate, Trigger
from edge_node.lights import open_indicator
from edge_node.listener import Listener
from edge_node.wakeword.detector import SAMPLE_RATE_HZ
from edge_node.wakeword.native import NativeDetector

# Frames begin anywhere in it: of the demo's clip the model hears 15 of 16 beginnings, of this one all, and by far.
CLIP = Path(__file__).parents[2] / "tests" / "data" / "ssabiseu_bf_lily.wav"
TIMEOUT_S = 30.0


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, f"timed out: {what}"
        time.sleep(0.05)


@pytest.fixture
def sound_server(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[subprocess.Popen[bytes]]:
    """PulseAudio with nothing but a sink that records what is played into it; PortAudio sees it as device `pulse`."""
    for program in ("pulseaudio", "pactl", "paplay", "parec"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    try:
        sounddevice = importlib.import_module("sounddevice")
    except OSError:
        pytest.skip("PortAudio (libportaudio2) is not installed")

    # A socket's path may have 108 bytes: the name of this folder is short.
    home = tmp_path_factory.mktemp("pa")
    home.chmod(0o700)
    for name in ("HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
    monkeypatch.setenv("PULSE_SERVER", f"unix:{home}/native")
    with (home / "log").open("wb") as log:
        server = subprocess.Popen(
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
        )
    try:
        wait_until(lambda: server.poll() is not None or _answers(), "pulseaudio's start")
        assert server.poll() is None, (home / "log").read_text()
        subprocess.run(["pactl", "set-default-source", "room.monitor"], check=True, timeout=TIMEOUT_S)
        # PortAudio lists the devices once, when it is initialised.
        sounddevice._terminate()
        sounddevice._initialize()
        if all(device["name"] != "pulse" for device in sounddevice.query_devices()):
            pytest.skip("the ALSA plug-in for PulseAudio (libasound2-plugins) is not installed")
        yield server
    finally:
        server.kill()
        server.wait(TIMEOUT_S)


def _answers() -> bool:
    return subprocess.run(["pactl", "info"], check=False, capture_output=True, timeout=TIMEOUT_S).returncode == 0


class Ear:
    """A listener on the microphone, and what it reported."""

    def __init__(self, source: str = "mic:pulse", return_s: float = 30.0) -> None:
        self.changes: list[Change] = []
        self.triggers: list[Trigger] = []
        self.ends: list[BaseException | None] = []
        self.triggered = threading.Event()
        self.ended = threading.Event()
        detector = NativeDetector()
        options = SourceOptions(return_s=return_s, on_change=self.changes.append)
        gate = Gate(detector.advice.gate())
        self.listener = Listener(open_source(source, options), detector, gate, self._trigger, self._end)

    def __enter__(self) -> Self:
        self.listener.start()
        wait_until(lambda: self.listener.scored > 0, "the first score")
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.stop()

    def _trigger(self, trigger: Trigger) -> None:
        self.triggers.append(trigger)
        self.triggered.set()

    def _end(self, error: BaseException | None) -> None:
        self.ends.append(error)
        self.ended.set()


@pytest.mark.usefixtures("sound_server")
def test_the_wake_word_in_the_room_triggers_the_listener() -> None:
    with Ear() as ear:
        subprocess.run(["paplay", str(CLIP)], check=True, timeout=TIMEOUT_S)
        assert ear.triggered.wait(TIMEOUT_S)
    assert ear.ends == [None]
    assert len(ear.triggers) == 1


@pytest.mark.usefixtures("sound_server")
def test_a_microphone_that_was_pulled_out_and_put_back_hears_again() -> None:
    with Ear() as ear:
        pactl("unload-module", "module-null-sink")
        wait_until(lambda: ear.changes == ["lost"], "the loss")
        pactl("load-module", "module-null-sink", "sink_name=room")
        pactl("set-default-source", "room.monitor")
        wait_until(lambda: ear.changes == ["lost", "back"], "the return")
        subprocess.run(["paplay", str(CLIP)], check=True, timeout=TIMEOUT_S)
        assert ear.triggered.wait(TIMEOUT_S)
    assert ear.ends == [None]
    assert len(ear.triggers) == 1


def test_a_sound_server_that_is_gone_for_good_ends_the_listener_with_an_error(
    sound_server: subprocess.Popen[bytes],
) -> None:
    with Ear(return_s=1.0) as ear:
        os.kill(sound_server.pid, signal.SIGTERM)
        assert ear.ended.wait(TIMEOUT_S)
    assert isinstance(ear.ends[0], MicrophoneLostError)
    assert ear.changes == ["lost"]


@pytest.mark.usefixtures("sound_server")
@pytest.mark.parametrize(
    "command",
    [
        "parec --raw --format=s16le --rate=16000 --channels=1 --latency-msec=20",
        "arecord -q -D pulse -t raw -f S16_LE -r 16000 -c 1",
    ],
)
def test_a_program_that_records_does_as_well(command: str) -> None:
    program = command.partition(" ")[0]
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    with Ear(source=f"exec:{command}") as ear:
        subprocess.run(["paplay", str(CLIP)], check=True, timeout=TIMEOUT_S)
        assert ear.triggered.wait(TIMEOUT_S)
    assert ear.ends == [None]


@pytest.mark.usefixtures("sound_server")
@pytest.mark.parametrize(("light", "hz"), [("wake_sent", 660), ("microphone_lost", 220)])
def test_what_the_node_lets_people_hear_is_in_the_room(tmp_path: Path, light: Light, hz: int) -> None:
    edge = EdgeSettings(sound_command="paplay", state_dir=tmp_path)
    indicator = open_indicator(edge, Events(io.StringIO(), as_json=True))
    with open_source("mic:pulse") as frames:
        iterator = iter(frames)
        next(iterator)
        indicator.show(light)
        loud = next(frame for frame in iterator if abs(frame.astype(int)).max() > 3000)
        tone = np.concatenate((loud, next(iterator)))
    spectrum = abs(np.fft.rfft(tone * np.hanning(len(tone))))
    assert spectrum.argmax() * SAMPLE_RATE_HZ / len(tone) == pytest.approx(hz, abs=15)


def pactl(*arguments: str) -> None:
    subprocess.run(["pactl", *arguments], check=True, timeout=TIMEOUT_S, stdout=subprocess.DEVNULL)
