"""What tests of the whole system say to its parts, and hear from them."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.programs import program
from tests.support.waiting import PATIENCE_S, wait_for
from tests.support.world import App, Bridge, Broker, Edge, Json, Mqtt

SHORT_PREFIX = "sarvis/short"
SHORT_TIMEOUT_S = 12.0
"""Longer than a busy machine stands still."""

BIRTH_SPREAD_S = 10.0
HEARD_KEYS = {"type", "command", "timestamp"}
V2_KEYS = HEARD_KEYS | {"id", "device_id", "ttl_ms", "age_ms", "received_at", "clock_ms"}


def claim(edge: Edge, bridge: Bridge) -> None:
    """Let the edge claim its user again, whoever was logged out there before."""
    assert bridge.http.post(f"{edge.url}/api/auth/login", json={"uid": edge.uid}).status_code == 200


@contextmanager
def logged_in(edge: Edge, bridge: Bridge) -> Iterator[App]:
    """The edge's user is connected and logged in there; logged out afterwards at the latest."""
    assert edge.uid is not None
    began = edge.mark()
    claim(edge, bridge)
    with bridge.app(edge.uid) as app:
        try:
            edge.event("logged_in", since=began, within_s=PATIENCE_S)
            yield app
        finally:
            bridge.post("/api/auth/logout", {"uid": edge.uid})
            count = len(edge.said("logged_in", began))
            wait_for("logged out", lambda: len(edge.said("logged_out", began)) == count)


def in_standby(edge: Edge, mqtt: Mqtt, since: int) -> None:
    """Everybody can see that nobody is logged in on the edge."""
    edge.event("logged_out", since=since)
    edge.event("led", lambda line: line["state"] == "standby", since=since)
    status_says(mqtt, edge, "standby")


def status_says(mqtt: Mqtt, edge: Edge, session: str) -> None:
    """Wait until the retained status says so: the broker has it a moment after the edge has told its terminal."""
    wait_for(f"the retained status says {session}", lambda: retained_status(mqtt, edge)["session"] == session)


def retained_status(mqtt: Mqtt, edge: Edge) -> Json:
    """What somebody who subscribes now is told."""
    with Mqtt(mqtt.paho.port, mqtt.prefix) as newcomer:
        return newcomer.message(f"devices/{edge.device_id}/status")


@contextmanager
def mosquitto_sub(broker: Broker, topic: str) -> Iterator[Iterator[str]]:
    """The lines `TOPIC PAYLOAD` of an operator's terminal, from the moment of its subscription."""
    line = [program("mosquitto_sub"), "-p", str(broker.port), "-q", "1", "-F", "%t %p"]
    # The bridge's retained status comes first, and so tells that the subscription stands.
    line += ["-t", "sarvis/v1/bridges/#", "-t", topic, "-W", str(int(PATIENCE_S))]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
        assert process.stdout is not None
        assert "/bridges/" in process.stdout.readline()
        try:
            yield (text.rstrip("\n") for text in process.stdout)
        finally:
            process.terminate()


def mosquitto_pub(broker: Broker, topic: str, payload: Json) -> None:
    text = json.dumps(payload, ensure_ascii=False)
    subprocess.run(
        [program("mosquitto_pub"), "-p", str(broker.port), "-q", "1", "-t", topic, "-m", text],
        check=True,
        timeout=PATIENCE_S,
    )


def is_message(kind: str) -> Any:
    return lambda line: isinstance(line.get("message"), dict) and line["message"].get("type") == kind
