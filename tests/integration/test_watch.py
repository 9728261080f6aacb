"""`sarvis watch` beside real brokers, bridges and clients."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.ports import free_port
from tests.support.processes import Sarvis, run_sarvis
from tests.support.secure import Client, SecureBroker
from tests.support.terminals import Pty
from tests.support.waiting import wait_for
from tests.support.world import QUICK, Bridge, Broker, EmbeddedBroker, Mqtt, unique

SARVIS = (sys.executable, "-m", "sarvis")
ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith(("SARVIS_", "NO_COLOR"))}
ESCAPE = "\x1b[31m"


@contextmanager
def watching(folder: Path, url: str, *arguments: str, ends_with: int = -signal.SIGKILL) -> Iterator[Sarvis]:
    """It hears when the block begins."""
    running = Sarvis("watch", "--mqtt-url", url, *arguments, cwd=folder, settings=QUICK)
    try:
        wait_for("it watches", lambda: watches(running))
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
        code = running.stop()
    assert code == ends_with, running.err


def watches(running: Sarvis) -> bool:
    assert running.process.poll() is None, running.err
    return any("watching " in line for line in list(running.err))


def said(running: Sarvis, words: str) -> str:
    def look() -> str | None:
        return next((line for line in list(running.out) if words in line), None)

    try:
        return wait_for(f"a line with {words!r}", look)
    except AssertionError as error:
        raise AssertionError(f"{error}; it said {running.out}, {running.err}") from None


def test_a_wake_is_followed_from_the_device_to_its_outcome(bridge: Bridge, broker: Broker, tmp_path: Path) -> None:
    uid, device = unique("user"), unique("x")
    with bridge.app(uid), Mqtt(broker.port) as mqtt, watching(tmp_path, broker.url) as watch:
        said(watch, "-> status  ")  # of the bridge, retained
        assert any("(retained) state=online" in line for line in watch.out)
        wake_id = mqtt.wake(device, uid, score=0.607)
        wake = said(watch, f"{device} -> wake")
        assert re.fullmatch(
            rf"\d\d:\d\d:\d\d\.\d\d\d  {device} -> wake +uid={uid} command=wake_up timestamp=\S+ id={wake_id} "
            r"score=0\.607",
            wake,
        )
        assert f"id={wake_id} status=acked" in said(watch, "status=acked")
        at = [number for number, line in enumerate(watch.out) if wake_id in line]
        assert "-> wake" in watch.out[at[0]]
        assert all(f"{device} <- outcome" in watch.out[number] for number in at[1:])


def test_nothing_that_is_sent_reaches_a_terminal_as_it_came(broker: Broker, mqtt: Mqtt, tmp_path: Path) -> None:
    device = unique("x")
    hostile = [
        (
            f"bridges/{device}/joined",
            json.dumps({"uid": "a", "client": f"{ESCAPE}\u202e", "turn": 1, "sockets": 1}).encode(),
        ),
        (f"devices/{device}/outcome", ESCAPE.encode()),
        (f"devices/{device}/ack", b"\xff\xfe\x00"),
        *([(f"devices/{device}/{ESCAPE}", b"{}")] if isinstance(broker, EmbeddedBroker) else []),
        (f"elsewhere/{device}", ESCAPE.encode()),
    ]
    """Mosquitto ends the connection of a client that names a topic with control characters."""
    with watching(tmp_path, broker.url, "--json") as as_json, watching(tmp_path, broker.url) as watch:
        for topic, payload in hostile:
            mqtt.paho.publish(f"{mqtt.prefix}/{topic}", payload, 1)
        said(watch, f"elsewhere/{device}")
        said(as_json, f"elsewhere/{device}")
        lines = [line for line in list(watch.out) if device in line]
        assert len(lines) == len(hostile)
        assert all(line.isprintable() for line in lines)
        assert any(r'client="\u001b[31m\u202e" turn=1' in line for line in lines)
        assert any(r"-> ack" in line and r"invalid: " in line and r'"\\xff\\xfe\u0000"' in line for line in lines)
        assert any("not a topic of SARVIS" in line for line in lines)
        found = [one for one in as_json.events() if device in one["topic"]]
        assert len(found) == len(lines)
        assert {one["kind"]: one.get("payload_base64") for one in found if "kind" in one}["ack"] == "//4A"


def test_programs_get_one_object_for_each_message_of_a_device(broker: Broker, mqtt: Mqtt, tmp_path: Path) -> None:
    device, other = unique("x"), unique("x")
    with watching(tmp_path, broker.url, device, "--json", "--count", "2", ends_with=0) as watch:
        for name, state in ((other, "online"), (device, "online"), (device, "offline")):
            mqtt.publish(f"devices/{name}/status", {"state": state}, retain=True)
        assert watch.process.wait(40) == 0
        wait_for("all is read", lambda: len(watch.out) == 2)
        topic = f"sarvis/v1/devices/{device}/status"
        assert [(one["topic"], one["owner"], one["kind"]) for one in watch.events()[:2]] == [
            (topic, device, "status")
        ] * 2
        assert [one["message"] for one in watch.events()[:2]] == [{"state": "online"}, {"state": "offline"}]
    for name in (device, other):
        mqtt.publish(f"devices/{name}/status", b"", retain=True)


def test_a_broker_that_restarts_is_watched_again(broker: Broker, tmp_path: Path) -> None:
    device = unique("x")
    with watching(tmp_path, broker.url) as watch:
        broker.kill()
        wait_for("it tells", lambda: any("trying again" in line for line in list(watch.err)))
        broker.start()
        wait_for("it is back", lambda: any("connected again" in line for line in list(watch.err)))
        with Mqtt(broker.port) as mqtt:
            mqtt.wake(device, "alice")
            said(watch, device)


@pytest.mark.parametrize(("by", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_as_it_ends_other_commands(
    broker: Broker, tmp_path: Path, by: signal.Signals, code: int
) -> None:
    with watching(tmp_path, broker.url, ends_with=code) as watch:
        watch.process.send_signal(by)
        assert watch.process.wait(40) == code
    assert not any("trying again" in line for line in watch.err)
    assert not any("Traceback" in line for line in watch.err)


def test_it_ends_quietly_when_its_reader_is_gone(broker: Broker, mqtt: Mqtt, tmp_path: Path) -> None:
    with subprocess.Popen(
        [*SARVIS, "watch", "--mqtt-url", broker.url], cwd=tmp_path, env=ENVIRONMENT,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as watch:  # fmt: skip
        assert watch.stdout is not None
        assert watch.stderr is not None
        assert b"watching" in watch.stderr.readline()
        watch.stdout.close()

        def next_one() -> bool:
            mqtt.wake(unique("x"), "alice")
            return watch.poll() is not None

        wait_for("it ends", next_one)
        assert watch.returncode == 128 + signal.SIGPIPE
        assert watch.stderr.read() == b""


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    def refused(*arguments: str, **settings: str) -> tuple[int, str]:
        done = run_sarvis("watch", *arguments, cwd=tmp_path, settings=settings)
        assert done.stdout == ""
        assert "Traceback" not in done.stderr
        return done.returncode, done.stderr

    port = free_port()
    code, words = refused("--mqtt-url", f"mqtt://127.0.0.1:{port}")
    assert code == 3
    assert f"nothing listens at 127.0.0.1:{port}: start the broker, or check mqtt.url" in words
    assert refused("a/#/b")[0] == 2
    code, words = refused(SARVIS_MQTT__USERNAME="bridge.hub")
    assert code == 2
    assert "use an operator's" in words


@pytest.mark.parametrize("kind", ["embedded", "mosquitto"])
def test_an_operator_watches_with_its_kit_and_nobody_else_does(kind: str, tmp_path: Path) -> None:
    with SecureBroker(kind, tmp_path, certificates=False) as secure:
        kit = str(secure.operator_kit / "sarvis.toml")
        url = secure.operator_door().url
        with watching(tmp_path, url, "--config", kit) as one, watching(tmp_path, url, "--config", kit) as other:
            device = secure.add("jetson-1")
            with Client(secure, device) as client:
                client.paho.publish("sarvis/v1/devices/jetson-1/status", b'{"state":"online"}', 1)
                for watch in (one, other):
                    assert said(watch, "jetson-1 -> status").endswith("state=online")
        environment = {"SARVIS_MQTT__PASSWORD_FILE": str(tmp_path / "wrong")}
        (tmp_path / "wrong").write_text("not the password")
        (tmp_path / "wrong").chmod(0o600)
        done = run_sarvis("watch", "--config", kit, cwd=tmp_path, settings=environment)
        assert done.returncode == 3
        assert "check mqtt.username and mqtt.password_file" in done.stderr


def test_on_a_terminal_each_device_has_its_colour(broker: Broker, mqtt: Mqtt, tmp_path: Path) -> None:
    environment = {**ENVIRONMENT, "TERM": "xterm-256color"}
    with Pty([*SARVIS, "watch", "--mqtt-url", broker.url], tmp_path, environment) as terminal:
        terminal.sees("watching sarvis/v1/#")
        for device in ("jetson-1", "jetson-2"):
            mqtt.wake(device, "alice", command=ESCAPE)
            terminal.sees(f"{device} -> wake")
        colours = dict(re.findall(r"\x1b\[(\d+)m(jetson-\d) -> wake", terminal.shown))
        assert sorted(colours.values()) == ["jetson-1", "jetson-2"], terminal.shown
        assert r'command="\u001b[31m"' in terminal.shown
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.ends() == 130
