"""`sarvis broker check` on brokers that hang up, die, or change topics: nothing that was or can be found is lost."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from broker.check import presence
from broker.check.findings import GUARANTEES, Finding, verdict
from broker.check.run import check
from broker.check.target import Credential, Device, Target
from broker.server.auth import OpenAuthorizer
from broker.server.codec import Packet, Publish, Subscribe
from broker.server.connection import Connection
from broker.server.router import RoutingBroker
from broker.server.session import Session
from contract.errors import MessageError
from tests.support.embedded import HOST, started
from tests.support.foreign import Nats
from tests.support.processes import Sarvis, run_sarvis
from tests.support.waiting import wait_for
from tests.support.world import Mosquitto, Mqtt

ONLY_IF_ASKED = {"filters", "window", "restart_retained", "restart_queue"}
RIGHTS = {"foreign_publish", "foreign_subscribe", "forged_command"}
OPEN = {guarantee.key for guarantee in GUARANTEES} - ONLY_IF_ASKED - RIGHTS - {"wrong_password"}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "KEEPALIVE_S", 2)
    monkeypatch.setattr(presence, "SILENT_AT_MOST_S", 10.0)


def target(port: int, prefix: str = "check", **more: Any) -> Target:
    nobody: dict[str, Any] = {"bridge": Credential(), "device": Device("one"), "rights": False}
    return Target(HOST, port, prefix, mute=Device("two"), late=Device("three"), **(nobody | more))


def by_key(found: list[Finding]) -> dict[str, Finding]:
    assert len({finding.guarantee.key for finding in found}) == len(found)
    return {finding.guarantee.key: finding for finding in found}


class Cutting(OpenAuthorizer):
    """As RabbitMQ does: whoever wants what is not his is disconnected."""

    def may_publish(self, client_id: str, username: str | None, topic: str) -> bool:
        del client_id
        if username == "jetson" and topic not in {f"check/devices/jetson/{kind}" for kind in ("wake", "status")}:
            raise MessageError("forbidden")
        return True

    def may_subscribe(self, client_id: str, username: str | None, topic_filter: str) -> bool:
        del client_id
        if username == "jetson" and "other-" in topic_filter:
            raise MessageError("forbidden")
        return True


def test_a_broker_that_hangs_up_is_probed_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    handle = Connection.handle

    def strict(self: Connection, packet: Packet) -> int:
        if isinstance(packet, Subscribe) and any(name.startswith("$share") for name, _ in packet.filters):
            raise MessageError("no shared subscriptions")
        return handle(self, packet)

    monkeypatch.setattr(Connection, "handle", strict)
    device = Device("jetson", Credential("jetson", "secret"))
    with started(access=Cutting()) as running:
        users = target(running.port, bridge=Credential("boss", "secret"), device=device, rights=True)
        found = by_key(list(check(users)))
    assert found.keys() == OPEN | RIGHTS | {"wrong_password"}
    assert found["shared"].seen == "the broker ended the connection at SUBSCRIBE to $share/check/check/devices/+/wake"
    assert found["shared"].holds is None
    assert found["mqtt_5"].seen == "refused"
    assert {found[key].seen for key in RIGHTS} == {"the broker cuts the connection"}
    assert {key for key, finding in found.items() if finding.holds is False} == {"stranger", "wrong_password"}


def test_a_broker_that_dies_in_the_middle_leaves_a_finding_for_each_guarantee(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker:
        found = []
        for finding in check(target(broker.port)):
            found.append(finding)
            if finding.guarantee.key == "latency":
                broker.kill()
    findings = by_key(found)
    assert findings.keys() == OPEN
    assert findings["commands"].holds
    assert "no broker answers" in findings["take_over_will"].seen
    assert verdict(found) == 1


def test_a_changed_prefix_is_told_and_all_else_is_probed_below_another(monkeypatch: pytest.MonkeyPatch) -> None:
    publish = RoutingBroker.client_publishes

    def as_rabbitmq(self: RoutingBroker, session: Session, packet: Publish) -> None:
        packet.topic = packet.topic.replace(".", "/")
        publish(self, session, packet)

    monkeypatch.setattr(RoutingBroker, "client_publishes", as_rabbitmq)
    with started() as running:
        found = by_key(list(check(target(running.port, "my.home", spare_prefix="spare"))))
    assert "nothing came" in found["prefix"].seen
    assert [key for key, finding in found.items() if finding.missing] == ["prefix"]


def test_the_check_asks_for_the_prefix_of_the_settings(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker, Mqtt(broker.port, "my") as listener:
        prefix = {"SARVIS_MQTT__PREFIX": "my/place"}
        done = run_sarvis("broker", "check", broker.url, "--json", cwd=tmp_path, settings=prefix, within_s=110)
        topics = {name for name, _, _ in listener.got}
    assert done.returncode == 0, done.stderr
    assert topics
    assert all(name.startswith("my/place/check-") for name in topics)


def test_a_blank_in_the_prefix_is_told_by_check_bridge_and_edge_on_nats(tmp_path: Path) -> None:
    blank = {"SARVIS_MQTT__PREFIX": "my home"}
    with Nats(tmp_path) as broker:
        found = by_key(list(check(target(broker.port, "my home", spare_prefix="spare"))))
        assert found["prefix"].seen == "SUBSCRIBE to my home/devices/+/wake was refused"
        assert [key for key, finding in found.items() if finding.missing] == ["prefix"]
        for program in (
            ("bridge", "--port", "0"),
            ("edge", "--device-id", "j", "--source", "stdin", "--http-port", "0"),
        ):
            line = (*program, "--mqtt-url", broker.url)
            with Sarvis(*line, cwd=tmp_path, settings=blank, stdin=subprocess.PIPE) as told:
                for words in ("mqtt_prefix_not_portable", "NATS refuses topics", "the reason may be mqtt.prefix"):
                    wait_for(words, lambda words=words, told=told: words in "\n".join(told.err), 60.0)  # type: ignore[misc]
