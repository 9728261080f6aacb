"""A whole enrolment in a room without a room: a node that runs, a person at a terminal, words in the microphone."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pytest
import soxr

from edge_node.audio.soundfiles import read_wav
from edge_node.audio.wav import wav
from edge_node.recordings.folder import TriggerFolder
from tests.support.ports import free_port
from tests.support.processes import Sarvis, run_sarvis
from tests.support.sound_server import SoundServer
from tests.support.terminals import Pty
from tests.support.waiting import wait_for

DATA = Path(__file__).parents[1] / "data"
RATE_HZ = 16_000
WORDS = 10
SARVIS = (sys.executable, "-m", "sarvis")
PAUSE = np.zeros(RATE_HZ // 4, np.int16)

Samples: TypeAlias = npt.NDArray[np.int16]


def at_speed(file: Path, factor: float) -> Samples:
    """The same words, faster and higher."""
    samples: Samples = soxr.resample(read_wav(file), RATE_HZ * factor, RATE_HZ)
    return samples


def recording(file: Path, *pieces: Samples, pause_s: float = 0.64) -> Path:
    """Pieces with pauses after each."""
    silence = np.zeros(round(pause_s * RATE_HZ), np.int16)
    file.write_bytes(wav(np.concatenate([part for piece in pieces for part in (piece, silence)])))
    return file


@pytest.fixture
def room(sound_server: SoundServer, tmp_path: Path) -> Iterator[SoundServer]:
    """It hisses a little, as every room does."""
    hiss = np.rint(np.random.default_rng(1).normal(0.0, 20.0, 120 * RATE_HZ)).astype(np.int16)
    file = tmp_path / "hiss.wav"
    file.write_bytes(wav(hiss))
    with subprocess.Popen(["paplay", str(file)]) as playing:
        yield sound_server
        playing.terminate()


class House:
    """A node that runs on the virtual microphone, and the commands that people type beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state_dir = folder / "state"
        self.named = ("--device-id", "jetson", "--state-dir", str(self.state_dir))
        settings = {"SARVIS_EDGE__KEEP_TRIGGERS": "true", "SARVIS_EDGE__SOURCE": "mic:pulse"}
        url = f"mqtt://127.0.0.1:{free_port()}"  # no broker: whether it hears is another matter
        options = (*self.named, "--http-port", "0", "--mqtt-url", url, "--json")
        self.node = Sarvis("edge", *options, cwd=folder, settings=settings)
        self.node.event("listening", lambda event: event["event"] == "listening")

    def logged(self, what: str, nth: int = 1) -> dict[str, Any]:
        return self.node.event(what, lambda event: event["event"] == what, nth=nth)

    def wakeword(self, *arguments: str) -> list[str]:
        done = run_sarvis("wakeword", arguments[0], *self.named, *arguments[1:], cwd=self.folder)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    def heard(self) -> int:
        """How often it took something for the word; nobody is logged in."""
        return sum(event["event"] == "ignored" for event in self.node.events())


@pytest.fixture
def house(room: SoundServer, tmp_path: Path) -> Iterator[House]:
    del room
    found = House(tmp_path)
    with found.node:
        yield found


def test_a_node_that_runs_learns_a_voice_at_its_microphone_and_forgets_it_again(
    house: House, room: SoundServer, tmp_path: Path
) -> None:
    speeds = np.linspace(1.0, 1.06, WORDS)
    words = recording(
        tmp_path / "words.wav", PAUSE, *(at_speed(DATA / "ssabiseu_em_alex.wav", speed) for speed in speeds)
    )
    talk = recording(tmp_path / "talk.wav", *[read_wav(DATA / "jarvis_near_miss.wav")] * 3, pause_s=0.1)
    warm_up = np.zeros(5 * RATE_HZ // 2, np.int16)  # a node needs two seconds before it can score
    stranger = recording(tmp_path / "stranger.wav", warm_up, read_wav(DATA / "ssabiseu_jf_nezumi.wav"), pause_s=1.0)
    own = recording(tmp_path / "own.wav", at_speed(DATA / "ssabiseu_em_alex.wav", 1.035))
    voice, folder = house.state_dir / "jetson.voice", TriggerFolder(house.state_dir, "jetson")

    # A stranger's word wakes the model alone: it is kept, played to somebody, and labelled.
    room.play(stranger)
    wait_for("the stranger is taken for the word", lambda: house.heard() == 1)
    wait_for("and kept", folder.all)
    with Pty([*SARVIS, "wakeword", "review", *house.named], tmp_path, os.environ) as terminal:
        terminal.sees("1 of 1: ")
        terminal.types("p")
        wait_for("it is heard in the room again", lambda: house.heard() == 2)
        terminal.types("n")
        assert terminal.ends() == 0

    short = ("--words", str(WORDS), "--room-s", "1", "--speech-s", "2", "--source", "mic:pulse")
    with Pty([*SARVIS, "wakeword", "enroll", *house.named, *short], tmp_path, os.environ) as terminal:
        terminal.sees("Press Enter to begin")
        terminal.types()
        terminal.sees(f"2. The word, {WORDS} times")
        terminal.types()
        terminal.sees(f"1 of {WORDS}: «싸비스»")
        room.play(words)
        terminal.sees("3. Other speech")
        terminal.types()
        terminal.sees("Speech is recorded.")
        room.play(talk)
        terminal.sees(f"Self-test: the engine itself recognised {WORDS} of {WORDS} words")
        terminal.sees("The node that runs takes it within a second.")
        assert terminal.ends() == 0
    assert house.logged("voice_adopted")["verifier"] is True
    assert voice.stat().st_mode & 0o777 == 0o600

    # Now it is who taught it that wakes it.
    before = house.heard()
    room.play(stranger)  # and two seconds of nothing
    assert house.heard() == before
    room.play(own)
    wait_for("the word is heard", lambda: house.heard() == before + 1)

    assert any("1 labels" in line for line in house.wakeword("enroll", "--refit"))
    house.logged("voice_adopted", nth=2)
    house.wakeword("enroll", "--remove")
    left = house.logged("voice_left")
    assert (left["threshold"], left["verifier"]) == (0.5, False)
    assert not voice.exists()
