"""Who gets through which door, on every broker as `sarvis broker config` sets it up, by password and by certificate.

For what must not arrive a later message by the same way is waited for: what it did not overtake never came.
"""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from broker.access.acl import client_id_of
from broker.provisioning import certs, kit
from broker.provisioning.configure import add_user, tell
from broker.provisioning.kit import BrokerAccess
from contract.errors import SettingsError
from tests.support.paho_clients import end
from tests.support.ports import free_port
from tests.support.programs import need
from tests.support.secure import HOST, KINDS, TOLD_TO_RELOAD, Client, SecureBroker, Will, stolen_from
from tests.support.waiting import PATIENCE_S, wait_for
from tests.support.world import PREFIX, unique

REFUSED = 0x80
NOT_AUTHORISED = 135
FROM_DEVICE = ("wake", "hello", "ack", "status", "model_report")
TO_DEVICE = ("outcome", "login", "logout", "model")
BRIDGE_STATUS = f"{PREFIX}/bridges/bridge-1/status"
BETWEEN_BRIDGES = tuple(f"{PREFIX}/bridges/bridge-1/{kind}" for kind in ("seek", "joined", "outcomes", "news"))
ALL_DEVICES = tuple(f"{PREFIX}/devices/+/{kind}" for kind in FROM_DEVICE)


def doors(*certificates: bool) -> list[Any]:
    return [
        pytest.param((kind, sure), id=f"{kind}-{'certificate' if sure else 'password'}")
        for kind in KINDS
        for sure in certificates
    ]


with_passwords = pytest.mark.parametrize("broker", doors(False), indirect=True)
with_certificates = pytest.mark.parametrize("broker", doors(True), indirect=True)


@pytest.fixture(scope="module", params=doors(False, True))
def broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureBroker]:
    kind, certificates = request.param
    with SecureBroker(kind, tmp_path_factory.mktemp(kind), certificates=certificates) as running:
        yield running


def topic(device: str, kind: str) -> str:
    return f"{PREFIX}/devices/{device}/{kind}"


class Device:
    """A user of the broker that is a device."""

    def __init__(self, broker: SecureBroker) -> None:
        self.name = unique("jetson")
        self.broker = broker
        self.door = broker.add(self.name)

    def connect(self, *, hears: bool = True, will: Will | None = None, client_id: str | None = None) -> Client:
        client = Client(self.broker, self.door, will=will, client_id=client_id)
        if hears:
            mine = [topic(self.name, kind) for kind in TO_DEVICE]
            assert client.subscribe(*mine, f"{PREFIX}/bridges/+/status") == [1] * (len(mine) + 1)
        return client

    def topic(self, kind: str) -> str:
        return topic(self.name, kind)


@pytest.fixture
def device(broker: SecureBroker) -> Device:
    return Device(broker)


@pytest.fixture
def stranger(broker: SecureBroker) -> Device:
    """Another device: let in, but not for this."""
    return Device(broker)


@pytest.fixture
def bridge(broker: SecureBroker) -> Iterator[Client]:
    with Client(broker, broker.bridge_door()) as client:
        assert client.subscribe(*ALL_DEVICES) == [1] * len(ALL_DEVICES)
        yield client


@pytest.fixture
def operator(broker: SecureBroker) -> Iterator[Client]:
    with Client(broker, broker.operator_door()) as client:
        assert client.subscribe(f"{PREFIX}/#") == [1]
        yield client


# --- what each may do ---


def test_a_device_and_the_bridge_hear_each_other(device: Device, bridge: Client) -> None:
    with device.connect() as jetson:
        for kind in FROM_DEVICE:
            jetson.publish(device.topic(kind), kind.encode())
            bridge.heard(device.topic(kind), kind.encode())
        for kind in TO_DEVICE:
            bridge.publish(device.topic(kind), kind.encode())
            jetson.heard(device.topic(kind), kind.encode())


def test_last_wills_of_a_device_and_of_the_bridge_arrive(broker: SecureBroker, device: Device) -> None:
    with (
        Client(broker, broker.bridge_door(), will=Will(BRIDGE_STATUS, b"bridge gone")) as bridge,
        device.connect(will=Will(device.topic("status"), b"device gone")) as jetson,
    ):
        bridge.subscribe(*ALL_DEVICES)
        jetson.die()
        bridge.heard(device.topic("status"), b"device gone")
        with device.connect() as again:
            bridge.die()
            again.heard(BRIDGE_STATUS, b"bridge gone")


def test_a_retained_status_is_told_to_a_new_bridge_until_the_bridge_clears_it(
    broker: SecureBroker, device: Device
) -> None:
    status = device.topic("status")
    with device.connect() as jetson:
        jetson.publish(status, b"online", retain=True)
    with Client(broker, broker.bridge_door()) as bridge:
        bridge.subscribe(*ALL_DEVICES)
        wait_for("the retained status", lambda: (status, b"online") in bridge.retained)
        bridge.publish(status, b"", retain=True)
    with Client(broker, broker.bridge_door()) as bridge, device.connect() as jetson:
        bridge.subscribe(*ALL_DEVICES)
        jetson.publish(status, b"marker")
        bridge.heard(status, b"marker")
        assert (status, b"online") not in bridge.retained


def test_the_bridge_mirrors_triggers_of_the_legacy_endpoint(bridge: Client, operator: Client) -> None:
    mirror = topic("legacy-http", "wake")
    bridge.publish(mirror, b"mirrored")
    operator.heard(mirror, b"mirrored")


def test_what_bridges_tell_each_other_is_said_and_heard_by_no_device(
    device: Device, bridge: Client, operator: Client
) -> None:
    outcome = device.topic("outcome")
    filters = [name.replace("bridge-1", "+") for name in BETWEEN_BRIDGES]
    assert bridge.subscribe(*filters) == [1] * len(filters)
    with device.connect() as jetson:
        for name in BETWEEN_BRIDGES:
            for forged in (name, name.replace("bridge-1", device.name)):
                jetson.publish(forged, b"forged")
                operator.publish(forged, b"forged")
        for topic_filter in (*filters, *BETWEEN_BRIDGES):
            # Mosquitto grants it and delivers nothing.
            assert jetson.subscribe(topic_filter) == [REFUSED] or device.broker.kind == "mosquitto", topic_filter
        for name in BETWEEN_BRIDGES:
            bridge.publish(name, b"marker")
            bridge.heard(name, b"marker")
            operator.heard(name, b"marker")
        bridge.publish(outcome, b"marker")
        operator.heard(outcome, b"marker")
        jetson.publish(device.topic("wake"), b"marker")
        bridge.heard(device.topic("wake"), b"marker")
        jetson.heard(outcome, b"marker")
        assert {name for name, _ in jetson.got} == {outcome}
    assert b"forged" not in [payload for client in (bridge, operator) for _, payload in client.got]


def test_an_operator_hears_all_and_says_nothing_to_devices_and_bridges(
    broker: SecureBroker, device: Device, bridge: Client, operator: Client
) -> None:
    with device.connect() as jetson:
        jetson.publish(device.topic("wake"), b"wake")
        operator.heard(device.topic("wake"), b"wake")
        said = [device.topic(kind) for kind in (*FROM_DEVICE, *TO_DEVICE)]
        for name in (*said, BRIDGE_STATUS, topic("operator.admin", "wake"), f"{PREFIX}/anything"):
            operator.publish(name, b"forged", retain=True)
        for kind in TO_DEVICE:
            bridge.publish(device.topic(kind), b"marker")
            jetson.heard(device.topic(kind), b"marker")
        for kind in FROM_DEVICE:
            jetson.publish(device.topic(kind), b"marker")
            bridge.heard(device.topic(kind), b"marker")
            operator.heard(device.topic(kind), b"marker")
        assert b"forged" not in [payload for client in (jetson, bridge, operator) for _, payload in client.got]
    with Client(broker, broker.operator_door()) as later:
        later.subscribe(f"{PREFIX}/#")
        bridge.publish(device.topic("logout"), b"marker")
        later.heard(device.topic("logout"), b"marker")
        assert b"forged" not in [payload for _, payload in later.retained]


def test_home_assistant_is_an_operator_and_devices_neither_tell_it_nor_hear_it(
    broker: SecureBroker, device: Device, bridge: Client
) -> None:
    status, config = "homeassistant/status", f"homeassistant/device/{device.name}/config"
    event = device.topic("event")
    door = broker.operator_door()
    with Client(broker, door, will=Will(status, b"offline")) as house, device.connect() as jetson:
        assert house.subscribe("homeassistant/#", f"{PREFIX}/devices/+/event") == [1, 1]
        for name in (status, config, event):
            jetson.publish(name, b"forged", retain=True)
        for name in (config, event):
            house.publish(name, b"forged", retain=True)
        house.publish(status, b"online")
        house.heard(status, b"online")
        for topic_filter in ("homeassistant/#", event):
            # Mosquitto grants it and delivers nothing.
            assert jetson.subscribe(topic_filter) == [REFUSED] or broker.kind == "mosquitto", topic_filter
        bridge.publish(config, b"a device", retain=True)
        house.heard(config, b"a device")
        bridge.publish(event, b"heard")
        house.heard(event, b"heard")
        bridge.publish(device.topic("login"), b"marker")
        jetson.heard(device.topic("login"), b"marker")
        assert {name for name, _ in jetson.got} == {device.topic("login")}
        with Client(broker, broker.operator_door()) as later:
            later.subscribe("homeassistant/#")
            wait_for("what is retained", lambda: (config, b"a device") in later.retained)
            bridge.publish(config, b"", retain=True)
            house.die()
            later.heard(status, b"offline")
        assert b"forged" not in [payload for client in (house, later) for _, payload in client.got]


def test_an_operator_watches_with_the_command_that_is_printed(
    broker: SecureBroker, device: Device, bridge: Client
) -> None:
    need("mosquitto_sub")
    command = kit.watch_command(broker.operator_kit, PREFIX)
    assert command in broker.configure()
    bridge.publish(device.topic("status"), b"kept", retain=True)
    seen = subprocess.run(["sh", "-c", f"{command} -C 1 -W 60 -F %p"], capture_output=True, check=False, timeout=90)
    bridge.publish(device.topic("status"), b"", retain=True)
    assert (seen.returncode, seen.stdout) == (0, b"kept\n"), seen.stderr


def test_an_operator_watches_from_several_terminals_at_once(
    broker: SecureBroker, bridge: Client, tmp_path: Path
) -> None:
    need("mosquitto_sub")
    command = f"{kit.watch_command(broker.operator_kit, PREFIX)} -q 1 -F %p"
    name = topic(unique("jetson"), "status")
    wanted = [f"message {number}" for number in range(30)]
    with ExitStack() as stack:
        files = [tmp_path / f"terminal-{number}" for number in range(3)]
        for file in files:
            out = stack.enter_context(file.open("wb"))
            process = subprocess.Popen(["sh", "-c", command.replace("XDG_", "exec env XDG_")], stdout=out)
            stack.callback(process.wait)
            stack.callback(process.terminate)
        tool = stack.enter_context(Client(broker, broker.operator_door()))
        tool.subscribe(f"{PREFIX}/#")
        # Until all have subscribed; who was thrown out and comes back is not there for all that follows.

        def all_hear() -> bool:
            bridge.publish(name, b"?")
            return all(file.stat().st_size for file in files)

        wait_for("all terminals hear", all_hear)
        for payload in wanted:
            bridge.publish(name, payload.encode())
            time.sleep(0.03)
        bridge.publish(name, b"end")
        wait_for("the end", lambda: all(file.read_text().endswith("end\n") for file in files))
        tool.heard(name, b"end")
    for heard in (*(file.read_text().split("\n") for file in files), [payload.decode() for _, payload in tool.got]):
        assert [each for each in heard if each.startswith("message")] == wanted


@pytest.mark.parametrize("broker", doors(False, True)[2:4], indirect=True)
def test_only_operators_come_in_where_client_ids_are_free(broker: SecureBroker, device: Device, bridge: Client) -> None:
    """Mosquitto's listener for operators: a device there could take over any connection."""
    free = broker.operator_door()
    assert free.url != broker.url
    for door in (device.door, broker.bridge_door()):
        for password in (door.password, free.password):
            with (
                device.connect() as jetson,
                Client(broker, replace(door, url=free.url, password=password), client_id=device.name, wait=False) as it,
            ):
                assert it.refused()
                bridge.publish(device.topic("logout"), b"still mine")
                jetson.heard(device.topic("logout"), b"still mine")
    assert broker.lets_in(free)
    assert broker.lets_in(replace(free, url=broker.url))


def test_configuring_again_keeps_users_and_kits(broker: SecureBroker, device: Device) -> None:
    before = broker.folder.users(), broker.bridge_door(), broker.ca_file.read_bytes()
    broker.configure()
    assert (broker.folder.users(), broker.bridge_door(), broker.ca_file.read_bytes()) == before
    broker.reload()
    # NATS may refuse whoever comes in the moment of a reload; clients try again.
    wait_for("the device is let in", lambda: broker.lets_in(device.door))
    wait_for("the bridge is let in", lambda: broker.lets_in(broker.bridge_door()))


# --- who is not let in ---


def test_a_client_without_a_credential_is_refused(broker: SecureBroker, device: Device) -> None:
    nobody = replace(device.door, password=None, certificate=None)
    with Client(broker, nobody, wait=False) as client:
        assert client.refused()
    assert broker.lets_in(device.door)


def test_no_wrong_password_gets_in(broker: SecureBroker, device: Device, stranger: Device) -> None:
    right = device.door.password
    wrong: list[BrokerAccess] = [
        replace(device.door, certificate=None, password=password)
        for password in ("", "wrong", f"{right or ''}x", stranger.door.password or "none")
    ]
    wrong.append(replace(device.door, certificate=None, username="nobody", password=right or "none"))
    for door in wrong:
        with Client(broker, door, wait=False) as client:
            assert client.refused()
    assert broker.lets_in(device.door)


def test_no_plain_text_gets_an_answer_at_the_door_with_tls(broker: SecureBroker, device: Device) -> None:
    connect = b"\x10\x10\0\x04MQTT\x04\x02\0\x3c\0\x04okay"
    with socket.create_connection((HOST, broker.port), timeout=PATIENCE_S) as plain:
        plain.sendall(connect)
        answer = b""
        try:
            while data := plain.recv(1024):
                answer += data
        except ConnectionResetError:
            pass
    # A TLS alert begins with 0x15; CONNACK would be 0x20.
    assert not answer or answer[0] == 0x15
    assert broker.lets_in(device.door)


@with_certificates
def test_no_certificate_of_another_authority_or_that_has_expired_gets_in(
    broker: SecureBroker, device: Device, tmp_path: Path
) -> None:
    certs.make_authority(tmp_path)
    foreign = certs.issue_client(tmp_path, device.name)
    with Client(broker, replace(device.door, certificate=foreign), wait=False) as client:
        assert client.refused()
    # Its own authority, but long ago.
    ours = tmp_path / "ours"
    ours.mkdir()
    for name in (certs.CA_CERT, certs.CA_KEY):
        (ours / name).write_bytes((broker.ca_file.parent / name).read_bytes())
    expired = certs.issue_client(ours, device.name, now=datetime.now(UTC) - timedelta(days=20), days=10)
    with Client(broker, replace(device.door, certificate=expired), wait=False) as client:
        assert client.refused()
    assert device.door.certificate is not None
    (name,) = certs.describe(device.door.certificate.cert).names
    renewed = certs.issue_client(ours, device.name, name=name)
    assert broker.lets_in(replace(device.door, certificate=renewed))


@with_certificates
def test_a_new_key_disconnects_holders_of_the_older_one(broker: SecureBroker, tmp_path: Path) -> None:
    name = unique("jetson")
    told = broker.folder.describe()
    assert told is not None
    stolen = stolen_from(broker.add(name), tmp_path)
    renewed = broker.add(name)
    assert renewed.certificate is not None
    assert renewed.certificate.key.read_bytes() == (tmp_path / "stolen.key").read_bytes()
    assert broker.lets_in(stolen), "a renewal cuts off nobody"
    with Client(broker, stolen) as thief:
        door = add_user(broker.folder, told, name, new_key=True)
        assert tell(broker.folder, told, [name], new_key=True) == TOLD_TO_RELOAD[broker.kind]
        assert thief.ended.wait(PATIENCE_S)
    wait_for("the older key is refused", lambda: not broker.lets_in(stolen))
    wait_for("the new key gets in", lambda: broker.lets_in(door))
    assert door.certificate is not None
    assert door.certificate.key.read_bytes() != (tmp_path / "stolen.key").read_bytes()


@with_certificates
def test_no_servers_certificate_gets_in_as_a_client(broker: SecureBroker, device: Device) -> None:
    folder = broker.ca_file.parent
    server = certs.Pair(folder / "server.crt", folder / "server.key")
    with Client(broker, replace(device.door, certificate=server), wait=False) as client:
        assert client.refused()
    assert broker.lets_in(device.door)


@with_certificates
def test_only_the_certificate_identifies_the_user(
    broker: SecureBroker, device: Device, stranger: Device, bridge: Client
) -> None:
    """A device that calls itself a bridge in CONNECT is still that device."""
    claimed = replace(stranger.door, username="bridge.bridge-1")
    with device.connect() as jetson, Client(broker, claimed, client_id=client_id_of(stranger.name)) as client:
        client.subscribe(*ALL_DEVICES, stranger.topic("logout"))
        client.publish(device.topic("logout"), b"forged")
        jetson.publish(device.topic("wake"), b"for the bridge")
        bridge.heard(device.topic("wake"), b"for the bridge")
        bridge.publish(device.topic("logout"), b"marker")
        jetson.heard(device.topic("logout"), b"marker")
        bridge.publish(stranger.topic("logout"), b"its own")
        client.heard(stranger.topic("logout"), b"its own")
        assert (device.topic("logout"), b"forged") not in jetson.got
        assert client.got == [(stranger.topic("logout"), b"its own")]


@pytest.mark.parametrize("kind", KINDS)
def test_a_certificate_user_has_no_empty_password_after_a_switch_to_passwords(kind: str, tmp_path: Path) -> None:
    broker = SecureBroker(kind, tmp_path, certificates=True)
    door = broker.add("jetson-1")
    broker.certificates = False
    broker.configure()
    with broker:
        for password in ("", None, "None"):
            for username in (door.username, ""):
                empty = replace(door, username=username, certificate=None, password=password)
                with Client(broker, empty, client_id=client_id_of(door.username), wait=False) as client:
                    assert client.refused()
        assert broker.lets_in(broker.add("jetson-1"))


@pytest.mark.parametrize("broker", [("nats", False), ("nats", True)], ids=["password", "certificate"], indirect=True)
def test_nats_own_port_admits_no_client(broker: SecureBroker, device: Device) -> None:
    """It cannot be closed, so it is on loopback and every user is told to come by MQTT."""
    port = int(broker.log().rsplit("Listening for client connections on 127.0.0.1:", 1)[1].split()[0])
    for door in (device.door, broker.bridge_door()):
        for proof in ({"user": door.username, "pass": door.password or ""}, {"user": door.username}, {}):
            with (
                socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as plain,
                plain.makefile("rb") as said,
            ):
                assert said.readline().startswith(b"INFO ")
                plain.sendall(b"CONNECT " + json.dumps({"verbose": True, **proof}).encode() + b"\r\nPING\r\n")
                assert said.readline().startswith(b"-ERR")
    assert broker.lets_in(device.door)


@pytest.mark.parametrize("kind", ["mosquitto"])
def test_mosquittos_door_on_loopback_asks_for_passwords_as_well(kind: str, tmp_path: Path) -> None:
    with SecureBroker(kind, tmp_path, certificates=False, local_port=free_port()) as broker:
        right = broker.operator_door().password
        assert [
            answer_on_loopback(broker, *proof)
            for proof in (
                ("operator.admin", right),
                ("operator.admin", "wrong"),
                ("operator.admin", None),
                (None, None),
            )
        ] == [0, NOT_AUTHORISED, NOT_AUTHORISED, NOT_AUTHORISED]


def answer_on_loopback(broker: SecureBroker, username: str | None, password: str | None) -> int:
    """The code of CONNACK."""
    answers: list[int] = []
    client = paho.Client(CallbackAPIVersion.VERSION2, unique("local"), reconnect_on_failure=False)
    client.on_connect = lambda _c, _d, _f, code, _p: answers.append(code.value)
    if username is not None:
        client.username_pw_set(username, password)
    client.connect("127.0.0.1", broker.local_port)
    client.loop_start()
    wait_for("CONNACK", lambda: answers)
    end(client)
    return answers[0]


# --- what a device may not do ---


def test_a_device_does_not_speak_as_another(device: Device, stranger: Device, bridge: Client) -> None:
    with device.connect() as jetson, stranger.connect() as forger:
        for kind in FROM_DEVICE:
            forger.publish(device.topic(kind), b"forged")
            jetson.publish(device.topic(kind), b"marker")
            bridge.heard(device.topic(kind), b"marker")
            forger.publish(stranger.topic(kind), b"its own")
            bridge.heard(stranger.topic(kind), b"its own")
    assert b"forged" not in [payload for _, payload in bridge.got]


def test_a_last_will_in_the_name_of_another_is_not_published(device: Device, stranger: Device, bridge: Client) -> None:
    for kind in FROM_DEVICE:
        # A broker may refuse the connection or drop the will.
        with Client(
            device.broker, stranger.door, will=Will(device.topic(kind), b"forged", retain=True), wait=False
        ) as forger:
            if forger.let_in():
                forger.die()
        # Its next connection comes after the will of the one before.
        with stranger.connect(will=Will(stranger.topic(kind), b"its own")) as again:
            again.die()
        bridge.heard(stranger.topic(kind), b"its own")
        bridge.got.clear()
    with Client(device.broker, device.broker.operator_door()) as later:
        later.subscribe(f"{PREFIX}/#")
        bridge.publish(device.topic("logout"), b"marker")
        later.heard(device.topic("logout"), b"marker")
        assert b"forged" not in [payload for _, payload in (*bridge.got, *later.retained)]


def test_a_device_forges_no_command_to_itself_or_to_another(device: Device, stranger: Device, bridge: Client) -> None:
    with device.connect() as jetson, stranger.connect() as forger:
        for kind in TO_DEVICE:
            forger.publish(device.topic(kind), b"forged", retain=True)
            forger.publish(stranger.topic(kind), b"forged", retain=True)
        forger.publish(BRIDGE_STATUS, b"forged", retain=True)
        for kind in TO_DEVICE:
            bridge.publish(device.topic(kind), b"marker")
            bridge.publish(stranger.topic(kind), b"marker")
            jetson.heard(device.topic(kind), b"marker")
            forger.heard(stranger.topic(kind), b"marker")
        bridge.publish(BRIDGE_STATUS, b"marker")
        jetson.heard(BRIDGE_STATUS, b"marker")
        assert b"forged" not in [payload for client in (jetson, forger) for _, payload in client.got]
    with device.connect() as again:
        bridge.publish(device.topic("logout"), b"marker")
        again.heard(device.topic("logout"), b"marker")
        assert again.retained == []


def test_a_device_hears_nothing_that_is_not_for_it(device: Device, stranger: Device, bridge: Client) -> None:
    with device.connect() as jetson:
        jetson.publish(device.topic("status"), b"secret", retain=True)
    bridge.publish(BRIDGE_STATUS, b"for all", retain=True)
    listening = (
        *(device.topic(kind) for kind in (*FROM_DEVICE, *TO_DEVICE)),
        *(f"{PREFIX}/devices/+/{kind}" for kind in (*FROM_DEVICE, *TO_DEVICE)),
        *("#", "+", "+/#", "+/+/+/+/+", f"{PREFIX}/#", f"{PREFIX}/devices/#", f"{PREFIX}/devices/{device.name}/#"),
        *("$SYS/#", "$MQTT/#", "$MQTT/sub/#", "$MQTT/sub/+", "$JS/#", "$share/group/#"),
    )
    with device.connect() as jetson, Client(device.broker, stranger.door) as spy:
        for topic_filter in listening:
            # Mosquitto grants it and delivers nothing.
            codes = spy.subscribe(topic_filter)
            assert codes == [REFUSED] or device.broker.kind == "mosquitto", topic_filter
        mine = stranger.topic("logout")
        spy.subscribe(mine, f"{PREFIX}/bridges/+/status")
        for kind in TO_DEVICE:
            bridge.publish(device.topic(kind), b"secret")
            jetson.heard(device.topic(kind), b"secret")
        jetson.publish(device.topic("wake"), b"secret")
        bridge.heard(device.topic("wake"), b"secret")
        bridge.publish(mine, b"marker")
        spy.heard(mine, b"marker")
        wait_for("what is retained for all", lambda: (BRIDGE_STATUS, b"for all") in spy.retained)
        names = {name for name, _ in (*spy.got, *spy.retained)}
    bridge.publish(BRIDGE_STATUS, b"", retain=True)
    bridge.publish(device.topic("status"), b"", retain=True)
    assert names <= {mine, BRIDGE_STATUS}


def test_a_device_does_not_reach_the_brokers_own_topics(device: Device, bridge: Client) -> None:
    """On NATS such topics would command its store of messages."""
    commands = ("$JS/API/STREAM/DELETE/$MQTT_msgs", "$JS/API/STREAM/PURGE/$MQTT_rmsgs", "$MQTT/sub/x", "$SYS/x", "$SYS")
    with device.connect() as jetson:
        for name in commands:
            jetson.publish(name, b"{}")
        jetson.publish(device.topic("wake"), b"still works")
        bridge.heard(device.topic("wake"), b"still works")
    with device.connect() as again:
        bridge.publish(device.topic("logout"), b"still works")
        again.heard(device.topic("logout"), b"still works")


# --- client ids ---


def test_a_client_cannot_take_over_the_connection_of_another(device: Device, stranger: Device, bridge: Client) -> None:
    broker = device.broker
    thieves = (stranger.door, broker.operator_door())
    for door in thieves:
        with device.connect() as jetson, Client(broker, door, client_id=client_id_of(device.name), wait=False) as thief:
            inside = thief.let_in()
            if broker.kind == "nats":
                # NATS ties no client id to a user: the thief disturbs, but it gets nothing that is not its own.
                assert jetson.ended.wait(PATIENCE_S)
                thief.subscribe(device.topic("logout"))
                assert thief.codes == [REFUSED] or door is not stranger.door
                continue
            # The embedded broker refuses it; Mosquitto lets it in under its own user name.
            assert inside is (broker.kind == "mosquitto")
            bridge.publish(device.topic("logout"), b"still mine")
            jetson.heard(device.topic("logout"), b"still mine")
            assert not jetson.ended.is_set()
    with device.connect() as jetson, device.connect() as newer:
        assert jetson.ended.wait(PATIENCE_S)
        bridge.publish(device.topic("logout"), b"to the newer")
        newer.heard(device.topic("logout"), b"to the newer")


def test_a_device_that_is_called_like_a_bridge_leaves_the_bridge_alone(broker: SecureBroker, bridge: Client) -> None:
    with Client(broker, broker.add("bridge-bridge-1")) as device:
        device.subscribe(topic("bridge-bridge-1", "logout"))
        bridge.publish(topic("bridge-bridge-1", "logout"), b"to a namesake")
        device.heard(topic("bridge-bridge-1", "logout"), b"to a namesake")
        assert not bridge.ended.is_set()


def test_no_user_of_mosquitto_is_called_like_the_client_id_of_another(broker: SecureBroker) -> None:
    told = broker.folder.describe()
    assert told is not None
    for name in ("sarvis-jetson-1", "sarvis-bridge-bridge-1"):
        if broker.kind != "mosquitto":
            assert broker.lets_in(broker.add(name))
            continue
        with pytest.raises(SettingsError, match="the client id of another"):
            add_user(broker.folder, told, name)
        assert name not in broker.folder.users()


# --- who has gone ---


def test_a_removed_user_is_cut_off_and_does_not_return(broker: SecureBroker, device: Device, tmp_path: Path) -> None:
    other = Device(broker)
    door = device.door
    if door.certificate is not None:  # the thief has a copy of what is forgotten here
        copies = (shutil.copy(file, tmp_path) for file in (door.certificate.cert, door.certificate.key))
        door = replace(door, certificate=certs.Pair(*map(Path, copies)))
    with device.connect() as jetson, other.connect() as still_there:
        broker.remove(device.name)
        assert jetson.ended.wait(PATIENCE_S)
        with Client(broker, door, wait=False) as back:
            assert back.refused()
        assert not still_there.ended.is_set()
    assert broker.lets_in(other.door)
    again = broker.add(device.name)
    assert broker.lets_in(again)
    with Client(broker, door, wait=False) as back:
        assert back.refused()


@with_passwords
def test_a_new_password_ends_the_old_one(broker: SecureBroker, device: Device) -> None:
    with device.connect() as jetson:
        new = broker.add(device.name)
        assert jetson.ended.wait(PATIENCE_S)
    with Client(broker, device.door, wait=False) as old:
        assert old.refused()
    assert broker.lets_in(new)


def test_users_outlive_a_broker_that_is_killed(broker: SecureBroker, device: Device) -> None:
    broker.kill()
    broker.start()
    with device.connect() as jetson, Client(broker, broker.bridge_door()) as bridge:
        bridge.publish(device.topic("logout"), b"after")
        jetson.heard(device.topic("logout"), b"after")
