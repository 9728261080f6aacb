"""A real sound server with a virtual microphone, recorded through PortAudio."""

import io
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import numpy as np
import pytest

from edge_node.audio.capture import Change, MicrophoneLostError
from edge_node.audio.format import SAMPLE_RATE_HZ
from edge_node.audio.sources import SourceOptions, open_source
from edge_node.display.events import Events, Light
from edge_node.display.lights import open_indicator
from edge_node.listening.audio_thread import Listener
from edge_node.wakeword.gate import Gate, Trigger
from edge_node.wakeword.native import NativeDetector
from infra.settings.edge import EdgeSettings
from tests.support.programs import need, needs
from tests.support.sound_server import SoundServer

# Frames begin anywhere in it: of the demo's clip the model hears 15 of 16 beginnings, of this one all, and by far.
CLIP = Path(__file__).parents[2] / "sarvis" / "clips" / "ssabiseu.wav"
TIMEOUT_S = 60.0


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, f"timed out: {what}"
        time.sleep(0.05)


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


def test_the_wake_word_in_the_room_triggers_the_listener(sound_server: SoundServer) -> None:
    with Ear() as ear:
        sound_server.play(CLIP)
        assert ear.triggered.wait(TIMEOUT_S)
    assert ear.ends == [None]
    assert len(ear.triggers) == 1


def test_a_microphone_that_was_pulled_out_and_put_back_hears_again(sound_server: SoundServer) -> None:
    with Ear() as ear:
        sound_server.pactl("unload-module", "module-null-sink")
        wait_until(lambda: ear.changes == ["lost"], "the loss")
        sound_server.pactl("load-module", "module-null-sink", "sink_name=room")
        sound_server.pactl("set-default-source", "room.monitor")
        wait_until(lambda: ear.changes == ["lost", "back"], "the return")
        sound_server.play(CLIP)
        assert ear.triggered.wait(TIMEOUT_S)
    assert ear.ends == [None]
    assert len(ear.triggers) == 1


def test_a_sound_server_that_is_gone_for_good_ends_the_listener_with_an_error(
    sound_server: SoundServer,
) -> None:
    with Ear(return_s=1.0) as ear:
        sound_server.process.terminate()
        assert ear.ended.wait(TIMEOUT_S)
    assert isinstance(ear.ends[0], MicrophoneLostError)
    assert ear.changes == ["lost"]


@pytest.mark.parametrize(
    "command",
    [
        "parec --raw --format=s16le --rate=16000 --channels=1 --latency-msec=20",
        "arecord -q -D pulse -t raw -f S16_LE -r 16000 -c 1",
        "arecord -q -D pulse -t wav -f S16_LE -r 44100 -c 2",
        "parec --file-format=au --format=float32le --rate=48000 --channels=2 --latency-msec=20",
    ],
)
def test_a_program_that_records_does_as_well(sound_server: SoundServer, command: str) -> None:
    need(command.partition(" ")[0])
    with Ear(source=f"exec:{command}") as ear:
        sound_server.play(CLIP)
        assert ear.triggered.wait(TIMEOUT_S)
    assert ear.ends == [None]


@needs("paplay")
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
