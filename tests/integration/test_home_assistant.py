"""What Home Assistant hears on the broker: devices that come and go, and what becomes of wakes. Real processes."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.processes import run_sarvis
from tests.support.services import Household
from tests.support.waiting import wait_for
from tests.support.world import BROKERS, HOST, Bridge, Edge, Json, Mqtt, unique


class House(Household):
    """A broker, a bridge that tells Home Assistant, and what that hears."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder = folder
        self.broker = BROKERS[kind](folder)

    def _open(self, running: ExitStack) -> None:
        running.enter_context(self.broker)
        told = {"SARVIS_HOME_ASSISTANT__ENABLED": "true"}
        self.bridge = running.enter_context(Bridge(self.folder, self.broker.url, told))
        self.devices = running.enter_context(Mqtt(self.broker.port))
        self.heard = running.enter_context(Mqtt(self.broker.port, "homeassistant"))

    def configs(self, device_id: str, watcher: Mqtt | None = None) -> list[Json | None]:
        """What came of a device, in order; None: it was removed."""
        topic = f"homeassistant/device/sarvis_v1_{device_id}/config"
        got = (watcher or self.heard).got
        return [json.loads(payload) if payload else None for name, payload, _ in list(got) if name == topic]

    def events(self, device_id: str, wake_id: str) -> list[str]:
        told = self.devices.messages(f"devices/{device_id}/event")
        return [event["event_type"] for event in told if event["id"] == wake_id]


@pytest.fixture(scope="module", params=sorted(BROKERS))
def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with House(tmp_path_factory.mktemp(request.param), request.param) as it:
        yield it


def test_a_device_is_there_for_a_home_assistant_that_starts_later_until_it_is_removed(house: House) -> None:
    device_id = unique("jetson")
    settings = {"SARVIS_OPERATOR__URL": house.bridge.url}
    for command in (("add",), ("remove", "--wait-s", "0")):
        if command == ("remove", "--wait-s", "0"):
            wait_for("it is told", lambda: house.configs(device_id))
            with Mqtt(house.broker.port, "homeassistant") as later:
                wait_for("it is told to who comes later", lambda: house.configs(device_id, later))
                (config,) = house.configs(device_id, later)
                assert config is not None
                assert (config["dev"]["name"], config["dev"]["sw"]) == (device_id, "1.2.3")
        done = run_sarvis("device", *command[:1], device_id, *command[1:], cwd=house.folder, settings=settings)
        assert done.returncode == 0, done.stderr
        if command == ("add",):
            status = {"state": "online", "version": "1.2.3"}
            house.devices.publish(f"devices/{device_id}/status", status, retain=True)
    wait_for("it vanishes", lambda: house.configs(device_id)[-1] is None)
    other = unique("jetson")
    with Mqtt(house.broker.port, "homeassistant") as later:
        house.devices.publish(f"devices/{other}/status", {"state": "online"}, retain=True)
        wait_for("another is told", lambda: house.configs(other, later))
        assert house.configs(device_id, later) == []


def test_a_wake_is_heard_at_once_and_has_its_fate_later(house: House) -> None:
    device_id, uid = unique("jetson"), unique("alice")
    with house.bridge.app(uid):
        acked = house.devices.wake(device_id, uid, score=0.875)
        wait_for("acked", lambda: house.events(device_id, acked) == ["heard", "acked"])
    with house.bridge.app(uid, legacy=True):
        delivered = house.devices.wake(device_id, uid, ttl_ms=2000)
        wait_for("delivered", lambda: house.events(device_id, delivered) == ["heard", "delivered"])
    missed = house.devices.wake(device_id, unique("no-app"), ttl_ms=2000)
    wait_for("missed", lambda: house.events(device_id, missed) == ["heard", "missed"])
    stale = house.devices.wake(device_id, uid, age_ms=9000, ttl_ms=5000)
    wait_for("expired", lambda: house.events(device_id, stale) == ["expired"])
    (event,) = (
        one
        for one in house.devices.messages(f"devices/{device_id}/event")
        if (one["id"], one["event_type"]) == (acked, "acked")
    )
    assert (event["uid"], event["score"]) == (uid, 0.875)
    assert event["ms"] > 0


def test_a_trigger_over_http_makes_no_device(house: House) -> None:
    uid = unique("alice")
    with house.bridge.app(uid):
        assert house.bridge.trigger(uid)["success"]
        marker = house.devices.wake(unique("jetson"), uid)
        wait_for("a later wake", lambda: [one for one in house.devices.got if marker.encode() in one[1]])
    assert house.devices.messages("devices/legacy-http/event") == []


def test_a_real_edge_is_there_with_its_version_and_its_wakes(house: House, tmp_path: Path) -> None:
    uid = unique("alice")
    with house.bridge.app(uid), Edge(tmp_path, house.broker.url, uid=uid) as edge:
        told = wait_for("it is told", lambda: house.configs(edge.device_id))
        assert told[-1] is not None
        assert told[-1]["dev"]["sw"]
        edge.event("logged_in")
        edge.hear_word()
        topic = f"devices/{edge.device_id}/event"
        wait_for("its wake", lambda: [one["event_type"] for one in house.devices.messages(topic)] == ["heard", "acked"])


def test_devices_are_told_again_to_a_broker_that_has_lost_them(tmp_path: Path) -> None:
    with House(tmp_path, "mosquitto") as house:
        device_id = unique("jetson")
        house.devices.publish(f"devices/{device_id}/status", {"state": "online"}, retain=True)
        wait_for("it is told", lambda: house.configs(device_id))
        house.broker.kill()
        house.broker.start()
        house.bridge.wait_ready()
        with Mqtt(house.broker.port, "homeassistant") as later, Mqtt(house.broker.port) as device:
            device.publish(f"devices/{device_id}/status", {"state": "online"}, retain=True)
            wait_for("it is told again", lambda: house.configs(device_id, later))


def test_without_the_setting_home_assistant_hears_nothing(tmp_path: Path) -> None:
    with BROKERS["embedded"](tmp_path) as broker, Bridge(tmp_path, broker.url) as bridge:
        device_id, uid = unique("jetson"), unique("alice")
        with Mqtt(broker.port) as devices, Mqtt(broker.port, "homeassistant") as heard, bridge.app(uid):
            devices.publish(f"devices/{device_id}/status", {"state": "online"}, retain=True)
            wake = devices.wake(device_id, uid)
            devices.message(f"devices/{device_id}/outcome", lambda outcome: outcome["status"] == "acked")
            devices.publish("devices/marker/hello", b"after")
            wait_for("the marker", lambda: [name for name, _, _ in devices.got if "marker" in name])
            assert heard.got == []
            assert [
                name for name, payload, _ in devices.got if name.endswith("/event") and wake.encode() in payload
            ] == []


def test_an_address_that_is_none_is_refused(tmp_path: Path) -> None:
    settings = {"SARVIS_HOME_ASSISTANT__BRIDGE_URL": f"{HOST}/console"}
    done = run_sarvis("bridge", "--port", "0", cwd=tmp_path, settings=settings)
    assert done.returncode == 2
    assert "home_assistant.bridge_url" in done.stderr
