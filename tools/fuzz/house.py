"""The processes under attack, what they say when something breaks, and a neighbour who must notice nothing."""

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from websockets.exceptions import ConnectionClosed

from tests.support.processes import Sarvis, run_sarvis
from tests.support.waiting import wait_for
from tests.support.world import (
    BROKERS,
    NO_BROKER,
    PREFIX,
    App,
    Bridge,
    Broker,
    Edge,
    EmbeddedBroker,
    Json,
    Mqtt,
    unique,
)
from tools.fuzz.record import Result
from tools.fuzz.rounds import Rounds

BEAT_EVERY_S = 0.1
# uvicorn says it at level error; it is about the client, and the bridge makes one line of it.
ONE_LINERS = ("Invalid UTF-8 sequence",)
WAKE_AGAIN_S = 2.0
# An attack is more than any caller may ask for; what refuses it would hide what lies behind.
GENEROUS = {
    f"SARVIS_LIMITS__{name}": "10000000/minute" for name in ("ADDRESS", "FAILURES", "CALLER", "APP", "FRAMES", "DEVICE")
}

# No server listens here: an attack reaches no push service.
PUSHES = {
    "SARVIS_PUSH__ENABLED": "true",
    "SARVIS_PUSH__CONTACT": "mailto:fuzz@example.com",
    "SARVIS_PUSH__KEY_FILE": "vapid.pem",
    "SARVIS_PUSH__SERVICES": '["http://127.0.0.1:1"]',
}


@dataclass
class House:
    """A broker, a bridge and perhaps an edge, all running."""

    broker: Broker
    bridge: Bridge
    edge: Edge | None = None

    def watched(self) -> "Watch":
        """Look after all processes of the project."""
        processes = {"bridge": self.bridge.sarvis}
        if isinstance(self.broker, EmbeddedBroker) and self.broker._sarvis is not None:
            processes["broker"] = self.broker._sarvis
        if self.edge is not None:
            processes["edge"] = self.edge.sarvis
        return Watch(processes)


@contextmanager
def house(folder: Path, kind: str, *, with_edge: bool = False) -> Iterator[House]:
    """Start it and stop it; a process that ends badly raises AssertionError, as everywhere in these tests."""
    for name in ("broker", "bridge", "edge"):
        (folder / name).mkdir(parents=True)
    with (
        BROKERS[kind](folder / "broker") as broker,
        Bridge(folder / "bridge", broker.url, {**GENEROUS, **PUSHES}) as bridge,
        Edge(folder / "edge", broker.url, uid=unique("owner")) if with_edge else nullcontext() as edge,
    ):
        yield House(broker, bridge, edge)


@contextmanager
def guarded_bridge(folder: Path) -> Iterator[tuple[Bridge, dict[str, str], dict[str, str]]]:
    """A bridge that requires credentials, without a broker; with the headers of an operator and of a caller."""
    settings = {**GENEROUS, **PUSHES, "SARVIS_AUTH__MODE": "required", "SARVIS_AUTH__KEY_FILE": str(folder / "keys")}

    def key(*arguments: str) -> dict[str, str]:
        made = run_sarvis("token", "api", *arguments, cwd=folder, settings=settings)
        assert made.returncode == 0, made.stderr
        return {"Authorization": f"Bearer {made.stdout.strip()}"}

    with Bridge(folder, NO_BROKER, settings) as bridge:
        yield bridge, key("operator", "--role", "operator"), key("caller")


class Watch:
    """Sees processes that ended, and errors in their logs since the last look."""

    def __init__(self, processes: dict[str, Sarvis]) -> None:
        self._processes = processes
        self._seen = {name: len(process.err) for name, process in processes.items()}
        self._dead: set[str] = set()

    def look(self, result: Result, given: object) -> bool:
        """Count what is new; False when a process has ended."""
        for name, process in self._processes.items():
            lines = process.err[self._seen[name] :]
            self._seen[name] += len(lines)
            for line in lines:
                if _is_error(line):
                    result.found("crash", f"{name}: {_essence(line)}", given)
            code = process.process.poll()
            if code is not None and name not in self._dead:
                self._dead.add(name)
                result.found("crash", f"{name} ended with {code}", given)
        return not self._dead


def _is_error(line: str) -> bool:
    if "Traceback" in line:
        return True
    try:
        entry = json.loads(line)
    except ValueError:
        return False
    if not isinstance(entry, dict) or str(entry.get("event")).startswith(ONE_LINERS):
        return False
    return "exc_info" in entry or entry.get("level") in {"error", "critical"}


def _essence(line: str) -> str:
    """The event and the last line of its traceback: what two occurrences have in common."""
    try:
        entry = json.loads(line)
    except ValueError:
        return line
    raised = str(entry.get("exception") or entry.get("exc_info") or entry.get("error") or "").strip()
    places = [part.strip() for part in raised.splitlines() if part.strip().startswith("File ")]
    raised = re.sub(r"0x[0-9a-f]+", "0x..", raised)
    event = str(entry.get("event")).splitlines()[0]
    return " | ".join(part for part in (event, *places[-1:], *raised.splitlines()[-1:]) if part)


def publish(mqtt: Mqtt, topic: str, payload: bytes) -> None:
    """At QoS 1 under the client's prefix, until acknowledged; AssertionError as soon as its connection has ended."""
    info = mqtt.paho.publish(f"{mqtt.prefix}/{topic}", payload, 1)
    wait_for("a PUBACK", lambda: info.is_published() or not mqtt.paho.is_connected())
    assert info.is_published(), "the MQTT connection has ended"


class Neighbour(Rounds):
    """Another user with another device: beats and is woken all the time, and counts what did not come."""

    name = "neighbour"
    pause_s = BEAT_EVERY_S

    def __init__(self, bridge: Bridge, broker: Broker) -> None:
        super().__init__()
        self.beats = 0
        self.wakes = 0
        device = unique("honest")
        self._device_id = device
        self._mqtt = self.at_end.enter_context(Mqtt(broker.port, f"{PREFIX}/devices/{device}"))
        self._app: App = self.at_end.enter_context(bridge.app(unique("neighbour")))

    def note(self) -> str:
        """What it lived through."""
        return f"a neighbour had {self.beats} heartbeats answered and {self.wakes} wakes delivered and confirmed"

    def live(self) -> bool:
        """A heartbeat that is answered and a wake that is delivered and confirmed."""
        try:
            self._beat()
            self._wake()
        except (AssertionError, ConnectionClosed, OSError, ValueError, RuntimeError) as error:
            self.failures.append(f"the neighbour: {str(error).split(';', maxsplit=1)[0]}")
            if self._app.code is not None or not self._mqtt.paho.is_connected():
                return False
        self._app.heard.clear()
        self._mqtt.got.clear()
        return True

    def _check(self) -> None:
        assert self._app.code is None, f"the neighbour's socket was closed with {self._app.code}"

    def _beat(self) -> None:
        number = self.begun
        self._app.say({"type": "heartbeat", "seq": number})

        def answered() -> bool:
            self._check()
            return any(ack.get("seq") == number for ack in self._app.messages("heartbeat_ack"))

        wait_for("heartbeat_ack", answered)
        self.beats += 1

    def _wake(self) -> None:
        """As a device does it: the same wake again every 2 s until its fate is known."""
        wake_id = unique("wake")
        wake: Json = {"uid": self._app.uid, "command": "wake_up", "timestamp": "then", "id": wake_id}
        again_at = 0.0

        def acked() -> bool:
            nonlocal again_at
            self._check()
            if time.monotonic() >= again_at:
                again_at = time.monotonic() + WAKE_AGAIN_S
                publish(self._mqtt, "wake", json.dumps(wake).encode())
            told: list[dict[str, Any]] = self._mqtt.messages("outcome")
            return any(outcome["id"] == wake_id and outcome["status"] == "acked" for outcome in told)

        wait_for("acked", acked)
        rung = [heard["id"] for heard in self._app.messages("voice_command")]
        assert wake_id in rung, "an outcome `acked` without a voice_command"
        self.wakes += 1
