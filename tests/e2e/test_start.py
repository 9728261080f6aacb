"""How the commands start and refuse to start, as an operator sees it."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from tests.support.ports import free_port
from tests.support.processes import LEDGER_HERE, Sarvis, run_sarvis
from tests.support.waiting import wait_for
from tests.support.world import HOST, QUICK, WORD, EmbeddedBroker, Mqtt, accepts, unique

STEREO_RATE_HZ = 44_100
AT_ONCE_S = 45.0


# --- what cannot start says why ---


@dataclass(frozen=True)
class Mistake:
    """A command that must end at once with this exit code and these words on standard error."""

    arguments: tuple[str, ...]
    code: int
    words: tuple[str, ...]
    settings: dict[str, str] = field(default_factory=dict)
    toml: str | None = None


EDGE = ("edge", "--device-id", "jetson-1", "--http-port", "0", "--state-dir", "state")
TAKEN = "{taken}"

MISTAKES = {
    "the broker's port is taken": Mistake(("broker", "--port", TAKEN), 3, (TAKEN, "--port")),
    "the bridge's port is taken": Mistake(("bridge", "--port", TAKEN), 3, (TAKEN, "--port")),
    "the edge's port is taken": Mistake(
        ("edge", "--device-id", "jetson-1", "--source", "silence", "--state-dir", "state", "--http-port", TAKEN),
        3,
        (TAKEN, "--http-port"),
    ),
    "an unknown setting in the environment": Mistake(
        ("bridge",), 2, ("SARVIS_BRIDGE__PROT",), {"SARVIS_BRIDGE__PROT": "8000"}
    ),
    "an unknown section in the environment": Mistake(
        ("bridge",), 2, ("SARVIS_BRIGDE__PORT",), {"SARVIS_BRIGDE__PORT": "8000"}
    ),
    "an unknown setting in the file": Mistake(
        ("bridge",), 2, ("bridge.prot", "sarvis.toml"), toml="[bridge]\nprot = 8000\n"
    ),
    "a value that is none": Mistake(("bridge",), 2, ("SARVIS_BRIDGE__PORT=8000",), {"SARVIS_BRIDGE__PORT": "many"}),
    "a file that is no TOML": Mistake(("bridge",), 2, ("sarvis.toml",), toml="[bridge\n"),
    "a file that is not there": Mistake(("bridge", "--config", "absent.toml"), 2, ("absent.toml",)),
    "a broker's address of another kind": Mistake(
        ("bridge", "--mqtt-url", "http://localhost:1883"), 2, ("mqtt.url", "mqtt://HOST:PORT")
    ),
    "a broker's address with a password": Mistake(
        ("bridge", "--mqtt-url", "mqtt://me:secret@localhost"), 2, ("mqtt.url", "mqtt.password")
    ),
    "a broker's port that is none": Mistake(("bridge", "--mqtt-url", "mqtt://localhost:99999"), 2, ("mqtt.url",)),
    "a WebSocket that there never was": Mistake(
        ("bridge", "--port", "0"), 2, ("bridge.websocket", "fast", "plain"), {"SARVIS_BRIDGE__WEBSOCKET": "slow"}
    ),
    "an edge without a name": Mistake(("edge", "--source", "silence"), 2, ("--device-id",)),
    "an edge with a bad name": Mistake(("edge", "--device-id", "a b", "--source", "silence"), 2, ("edge.device_id",)),
    "a source that is no recording": Mistake((*EDGE, "--source", "wav:notes.txt"), 2, ("notes.txt",)),
    "a source that is not there": Mistake((*EDGE, "--source", "wav:absent.wav"), 2, ("absent.wav",)),
    "an unknown source": Mistake((*EDGE, "--source", "radio"), 2, ("radio", "stdin")),
}


@pytest.fixture(scope="module")
def endings(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[str], tuple[subprocess.CompletedProcess[str], tuple[str, ...]]]]:
    """Makes all mistakes, two at a time, and tells how each ended and the words that must be said."""
    with socket.create_server((HOST, 0)) as squatter, ThreadPoolExecutor(2) as pool:
        port = str(squatter.getsockname()[1])

        def make(mistake: Mistake) -> subprocess.CompletedProcess[str]:
            folder = tmp_path_factory.mktemp("mistake")
            (folder / "notes.txt").write_text("milk, bread")
            if mistake.toml is not None:
                (folder / "sarvis.toml").write_text(mistake.toml)
            arguments = [argument.replace(TAKEN, port) for argument in mistake.arguments]
            return run_sarvis(*arguments, cwd=folder, settings=mistake.settings)

        made: dict[str, Future[subprocess.CompletedProcess[str]]] = {
            name: pool.submit(make, mistake) for name, mistake in MISTAKES.items()
        }
        yield lambda name: (
            made[name].result(),
            tuple(words.replace(TAKEN, port) for words in MISTAKES[name].words),
        )


@pytest.mark.parametrize("name", list(MISTAKES))
def test_a_mistake_is_named_in_one_line(
    endings: Callable[[str], tuple[subprocess.CompletedProcess[str], tuple[str, ...]]], name: str
) -> None:
    ended, words = endings(name)
    assert ended.returncode == MISTAKES[name].code, ended.stderr
    for word in words:
        assert word in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "secret" not in ended.stderr
    assert ended.stdout == ""
    assert len([line for line in ended.stderr.splitlines() if line.startswith("error: ")]) == 1


# --- what says that it listens, listens ---


@dataclass(frozen=True)
class Service:
    """A long-running command, and how it says where it listens."""

    arguments: tuple[str, ...]

    def port(self, line: str) -> int:
        told = json.loads(line)["http"] if line.startswith("{") else line
        return int(str(told).rsplit(":", 1)[1])


NO_BROKER = ("--mqtt-url", f"mqtt://{HOST}:9")
SERVICES = {
    "broker": Service(("broker", "--port", "0")),
    "bridge": Service(("bridge", "--port", "0", *NO_BROKER)),
    "edge": Service((*EDGE, "--json", "--source", "silence", *NO_BROKER)),
}


def first_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("name", list(SERVICES))
def test_the_line_that_says_it_listens_is_true_and_from_then_on_it_ends_cleanly(
    tmp_path: Path, name: str, number: signal.Signals
) -> None:
    service = SERVICES[name]
    line = [sys.executable, "-m", "sarvis", *service.arguments]
    with subprocess.Popen(
        line,
        cwd=tmp_path,
        env={**os.environ, **LEDGER_HERE},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            port = service.port(first_line(process))
            reached = accepts(port)
            process.send_signal(number)
            _, told = process.communicate(timeout=AT_ONCE_S)
        finally:
            process.kill()
    assert process.returncode == 0, told
    assert "Traceback" not in told
    assert reached, "it said that it listens, and refused a connection"


# --- one after another ---


@pytest.fixture(scope="module")
def broker_port() -> int:
    return free_port()


def test_bridge_and_edge_wait_for_a_broker_that_is_down_and_say_why_they_lost_it(tmp_path: Path) -> None:
    broker = EmbeddedBroker(tmp_path)
    broker.port = free_port()
    with (
        Sarvis("bridge", "--port", "0", "--mqtt-url", broker.url, cwd=tmp_path, settings=QUICK) as bridge,
        Sarvis(*EDGE, "--json", "--source", "silence", "--mqtt-url", broker.url, cwd=tmp_path, settings=QUICK) as edge,
    ):
        edge.event("the edge listens", lambda line: line.get("event") == "listening")
        for process in (bridge, edge):
            process.event("it says that it cannot", lambda line: line.get("event") == "mqtt_disconnected")
            assert process.process.poll() is None
        with broker:
            for process in (bridge, edge):
                process.event("it connects", lambda line: line.get("event") == "mqtt_connected")
        lost = edge.event("the edge lost it", lambda line: line.get("event") == "disconnected")
        bridge.event("the bridge lost it", lambda line: line.get("event") == "mqtt_disconnected", nth=2)
        assert lost["reason"]


def test_a_second_edge_of_the_same_device_does_not_start(tmp_path: Path) -> None:
    arguments = (*EDGE, "--json", "--source", "silence", *NO_BROKER)
    with Sarvis(*arguments, cwd=tmp_path) as first:
        first.event("it listens", lambda line: line.get("event") == "listening")
        second = run_sarvis(*arguments, cwd=tmp_path)
        assert second.returncode == 3
        assert "jetson-1" in second.stderr
        assert "Traceback" not in second.stderr
        assert first.process.poll() is None


def test_the_word_in_a_stereo_recording_at_44100_hz_is_heard(tmp_path: Path) -> None:
    word, rate = soundfile.read(WORD, dtype="float32")
    louder = soxr.resample(word, rate, STEREO_RATE_HZ)
    soundfile.write(tmp_path / "stereo.wav", np.stack((louder, louder), axis=1), STEREO_RATE_HZ)
    uid, device = unique("user"), "jetson-1"
    with EmbeddedBroker(tmp_path) as broker, Mqtt(broker.port) as mqtt, Sarvis(
        *EDGE, "--json", "--uid", uid, "--source", "wav:stereo.wav", "--mqtt-url", broker.url, cwd=tmp_path
    ) as edge:  # fmt: skip
        # Without a bridge: the test grants the session itself.
        hello = mqtt.message(f"devices/{device}/hello")
        login = {"id": "l", "uid": uid, "session_id": "s", "lease_s": 60, "re": hello["nonce"]}
        mqtt.publish(f"devices/{device}/login", login)
        edge.event("logged in", lambda line: line.get("event") == "logged_in")
        edge.event("the word", lambda line: line.get("event") == "wake")
        wake = mqtt.message(f"devices/{device}/wake")
        assert (wake["uid"], wake["command"], wake["model"]) == (uid, "wake_up", "ssabiseu")
        mqtt.publish(f"devices/{device}/outcome", {"id": wake["id"], "status": "acked", "latency_ms": 1.0})
        edge.event("its fate", lambda line: line.get("event") == "outcome")
        wait_for("it tells its state", lambda: mqtt.messages(f"devices/{device}/status")[-1]["session"] == "active")
