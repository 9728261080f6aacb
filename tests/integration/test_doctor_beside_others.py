"""`sarvis doctor` beside nodes, bridges and waiting messages, on each broker as `sarvis broker config` sets it up."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from broker.access.acl import client_id_of
from broker.provisioning import kit
from broker.provisioning.kit import BrokerAccess
from infra.diagnostics import Finding
from infra.settings.loader import load
from sarvis.broker_look import look
from tests.support.paho_clients import end
from tests.support.ports import free_port
from tests.support.processes import Sarvis, run_sarvis
from tests.support.secure import HOST, KINDS, Client, SecureBroker
from tests.support.waiting import PATIENCE_S, wait_for
from tests.support.world import PREFIX, EmbeddedBroker, Mosquitto, unique

DOORS = [pytest.param((kind, sure), id=f"{kind}-{'certificate' if sure else 'password'}") for kind in KINDS
         for sure in (False, True)]  # fmt: skip
WITHOUT_TRYING = "mosquitto"
"""It knows users by their names alone: only a wrong password could be tried there without harm."""


@pytest.fixture(scope="module", params=DOORS)
def broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureBroker]:
    kind, certificates = request.param
    with SecureBroker(kind, tmp_path_factory.mktemp(kind), certificates=certificates) as running:
        yield running


@pytest.fixture
def door(broker: SecureBroker) -> BrokerAccess:
    return broker.add(unique("jetson"))


@pytest.fixture
def config(door: BrokerAccess, tmp_path: Path) -> Path:
    return kit.write_device_kit(tmp_path / "kit", door)


def looked(config: Path, *, as_node: bool = False) -> Finding:
    nobody: dict[str, Any] = {"edge__http_port": free_port(), "edge__state_dir": config.parent / "state"}
    return look(load(config, **nobody), as_node=as_node)


def topic(door: BrokerAccess) -> str:
    return f"{PREFIX}/devices/{door.username}/logout"


def test_a_node_elsewhere_stays_connected_and_no_password_fault_is_reported(
    broker: SecureBroker, door: BrokerAccess, config: Path
) -> None:
    with Client(broker, door) as node, Client(broker, broker.bridge_door()) as bridge:
        node.subscribe(topic(door))
        found = looked(config)
        bridge.publish(topic(door), b"still there")
        node.heard(topic(door), b"still there")
        assert not node.ended.is_set()
    if broker.kind == WITHOUT_TRYING:
        assert found.state == "warning"
        assert "was not tried" in found.found
        assert "--as-node" in found.advice
    else:
        assert (found.state, found.found[:17]) == ("fine", "accepts this user"), found


def test_a_wrong_password_is_called_wrong_and_what_would_end_a_node_is_not_tried(
    broker: SecureBroker, door: BrokerAccess, config: Path
) -> None:
    if broker.certificates:
        broker.remove(door.username)
    else:
        (config.parent / kit.PASSWORD).write_text("another\n")
    if broker.kind == WITHOUT_TRYING and not broker.certificates:
        assert looked(config).state == "warning"
        found = looked(config, as_node=True)
    else:
        wait_for("the user is known no more", lambda: looked(config).state == "failed")
        found = looked(config)
    assert found.state == "failed"
    words = ("cert",) if broker.certificates else ("mqtt.username", "mqtt.password_file")
    assert all(word in found.found for word in words), found


@pytest.mark.parametrize("as_node", [False, True])
def test_what_waits_for_a_node_waits_on(broker: SecureBroker, door: BrokerAccess, config: Path, as_node: bool) -> None:
    with _Returning(door) as node:
        node.subscribe(topic(door))
    with Client(broker, broker.bridge_door()) as bridge:
        for number in range(3):
            bridge.publish(topic(door), b"log-out %d" % number)
    looked(config, as_node=as_node)
    with _Returning(door) as node:
        assert node.present
        wait_for("what waited", lambda: {b"log-out 0", b"log-out 1", b"log-out 2"} <= set(node.got))


def test_as_the_node_it_finds_out_and_leaves_no_session(door: BrokerAccess, config: Path) -> None:
    found = looked(config, as_node=True)
    assert (found.state, found.found) == ("fine", "accepts this user"), found
    with _Returning(door) as node:
        assert not node.present


class _Returning:
    """A client with a session that outlives its connections."""

    def __init__(self, door: BrokerAccess) -> None:
        self.got: list[bytes] = []
        self.present: bool | None = None
        self._granted = False
        self.paho = paho.Client(CallbackAPIVersion.VERSION2, client_id_of(door.username), clean_session=False)
        self.paho.on_connect = self._on_connect
        self.paho.on_message = lambda _client, _data, message: self.got.append(bytes(message.payload))
        self.paho.on_subscribe = self._on_subscribe
        pair = door.certificate
        self.paho.tls_set(str(door.ca_file), *((str(pair.cert), str(pair.key)) if pair else ()))
        self.paho.username_pw_set(door.username, door.password)
        self.paho.connect(HOST, load(None, mqtt__url=door.url).mqtt.port)
        self.paho.loop_start()
        wait_for("CONNACK", lambda: self.present is not None)

    def _on_connect(self, _client: Any, _data: Any, flags: Any, code: Any, _properties: Any) -> None:
        assert not code.is_failure
        self.present = flags.session_present

    def _on_subscribe(self, *_: Any) -> None:
        self._granted = True

    def subscribe(self, name: str) -> None:
        self.paho.subscribe(name, 1)
        wait_for("SUBACK", lambda: self._granted)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        end(self.paho)


def doctor(folder: Path, *arguments: str, **settings: str) -> tuple[int, Finding]:
    """The exit code, and what the command found of the broker."""
    done = run_sarvis("doctor", "--json", "--source", "silence", *arguments, cwd=folder, settings=settings)
    rows = [Finding(**json.loads(line)) for line in done.stdout.splitlines()]
    return done.returncode, next(row for row in rows if row.what.startswith("broker "))


@pytest.mark.parametrize("kind", KINDS)
def test_an_edge_that_runs_here_is_asked_and_goes_on(kind: str, tmp_path: Path) -> None:
    with SecureBroker(kind, tmp_path, certificates=False) as running:
        config = kit.write_device_kit(tmp_path / "kit", running.add("jetson-1"))
        port = str(free_port())
        settings = {"SARVIS_EDGE__HTTP_PORT": port, "SARVIS_EDGE__STATE_DIR": str(tmp_path / "state")}
        with Sarvis(
            "edge", "--config", str(config), "--source", "silence", cwd=tmp_path, settings=settings
        ) as edge:  # fmt: skip
            edge.event("connected", lambda event: event["event"] == "mqtt_connected")
            for arguments in ((), ("--as-node",)):
                code, found = doctor(tmp_path, "--config", str(config), *arguments, **settings)
                assert (code, found.state) == (0, "fine"), found
                if kind == WITHOUT_TRYING or arguments:
                    assert found.found == "the edge jetson-1, which runs here, is connected"
            code, found = doctor(tmp_path, "--config", str(config), **{**settings, "SARVIS_EDGE__HTTP_PORT": "0"})
            assert (code, found.state) == (0, "warning" if kind == WITHOUT_TRYING else "fine"), found
            assert not [event for event in edge.events() if event.get("event") == "mqtt_disconnected"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_bridge_that_runs_here_is_asked_and_goes_on(kind: str, tmp_path: Path) -> None:
    with SecureBroker(kind, tmp_path, certificates=False) as running:
        config = str(running.bridge_kit / "sarvis.toml")
        settings = {"SARVIS_BRIDGE__PORT": str(free_port()), "SARVIS_BRIDGE__HOST": "127.0.0.1"}
        with Sarvis("bridge", "--config", config, cwd=tmp_path, settings=settings) as bridge:
            bridge.event("connected", lambda event: event["event"] == "mqtt_connected")
            code, found = doctor(tmp_path, "--config", config, **settings)
            assert (code, found.state) == (0, "fine"), found
            if kind == WITHOUT_TRYING:
                assert found.found == "the bridge bridge-1, which runs here, is connected"
            assert not [event for event in bridge.events() if event.get("event") == "mqtt_disconnected"]


@pytest.mark.parametrize("make", [EmbeddedBroker, Mosquitto])
def test_on_a_broker_without_users_no_client_is_disturbed(make: Any, tmp_path: Path) -> None:
    """With client ids that are free, those of the doctor are of no node."""
    with make(tmp_path) as open_broker:
        node = paho.Client(CallbackAPIVersion.VERSION2, "sarvis-jetson-1", reconnect_on_failure=False)
        ended: list[object] = []
        node.on_disconnect = lambda *_: ended.append(1)
        node.connect(HOST, open_broker.port)
        node.loop_start()
        wait_for("connected", node.is_connected)
        found = look(load(None, mqtt__url=open_broker.url, edge__device_id="jetson-1"))
        node.publish("fence", b"", 1).wait_for_publish(PATIENCE_S)
        assert ended == []
        end(node)
    assert (found.state, found.found) == ("fine", "connected")
