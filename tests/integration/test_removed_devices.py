"""A removed device's retained status, in every order of what can happen while the bridge is down. Real brokers."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.processes import run_sarvis
from tests.support.services import Household
from tests.support.waiting import wait_for
from tests.support.world import BROKERS, PREFIX, Bridge, Json, Mosquitto, Mqtt, unique

ONLINE, OFFLINE = {"state": "online", "boot": 3}, {"state": "offline", "boot": 3}
NO_STATUS = b"{}"


class House(Household):
    """A broker, a ledger, and a bridge that runs or does not."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder = folder
        # Retained messages outlive the broker, as where it is in earnest.
        kept = f"user root\npersistence true\npersistence_location {folder}/\n"
        self.broker = Mosquitto(folder, kept) if kind == "mosquitto" else BROKERS[kind](folder)

    def _open(self, running: ExitStack) -> None:
        running.enter_context(self.broker)
        self.bridge = Bridge(self.folder, self.broker.url)
        running.enter_context(self.bridge)

    def sarvis(self, *arguments: str) -> None:
        settings = {"SARVIS_OPERATOR__URL": self.bridge.url}
        done = run_sarvis(*arguments, cwd=self.folder, settings=settings)
        assert done.returncode == 0, done.stderr

    def added(self) -> str:
        device_id = unique("jetson")
        self.sarvis("device", "add", device_id)
        return device_id

    def removed(self, device_id: str) -> None:
        self.sarvis("device", "remove", device_id, "--wait-s", "0")

    def say(self, device_id: str, status: Json | bytes) -> None:
        with Mqtt(self.broker.port) as device:
            device.publish(f"devices/{device_id}/status", status, retain=True)

    def retained(self, device_id: str) -> bytes | None:
        """What a watcher sees who comes now; None for nothing."""
        with Mqtt(self.broker.port) as watcher:
            marker = unique("marker")
            watcher.publish(f"devices/{marker}/hello", b"after all that is retained")
            wait_for("the marker", lambda: [name for name, _, _ in list(watcher.got) if marker in name])
            topic = f"{PREFIX}/devices/{device_id}/status"
            found = [payload for name, payload, retained in watcher.got if name == topic and retained]
            return found[0] if found else None

    def is_cleared(self, device_id: str) -> None:
        wait_for("its status is cleared", lambda: self.retained(device_id) is None)


@pytest.fixture(params=sorted(BROKERS))
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    with House(tmp_path, request.param) as it:
        yield it


def test_what_a_device_left_that_was_removed_while_the_bridge_was_down_is_cleared(house: House) -> None:
    """Also `online`: a broker that cuts it off need not publish its last will. Also what nobody can read."""
    statuses: dict[str, Json | bytes] = {}
    for status in (ONLINE, OFFLINE, NO_STATUS):
        statuses[house.added()] = status
    stays = house.added()
    house.bridge.kill()
    for device_id, status in [*statuses.items(), (stays, ONLINE)]:
        house.say(device_id, status)
    for device_id in statuses:
        house.removed(device_id)
        assert house.retained(device_id)
    house.bridge.start()
    for device_id in statuses:
        house.is_cleared(device_id)
    assert house.retained(stays)


def test_the_status_of_a_device_that_was_removed_and_added_again_meanwhile_stays(house: House) -> None:
    again, gone = house.added(), house.added()
    house.say(gone, ONLINE)
    house.bridge.kill()
    house.removed(again)
    house.removed(gone)
    house.sarvis("device", "add", again)
    house.say(again, ONLINE)
    house.bridge.start()
    house.is_cleared(gone)
    assert house.retained(again)


def test_a_removed_devices_late_status_is_cleared_until_it_is_added_again(
    house: House,
) -> None:
    device_id = house.added()
    house.say(device_id, ONLINE)
    house.removed(device_id)
    house.is_cleared(device_id)
    for status in (ONLINE, OFFLINE, ONLINE):
        house.say(device_id, status)
        house.is_cleared(device_id)
    gone = house.added()
    house.removed(gone)
    house.sarvis("device", "add", device_id)
    house.say(device_id, ONLINE)
    house.say(gone, ONLINE)
    house.is_cleared(gone)
    assert house.retained(device_id)


def test_a_status_kept_by_a_broker_down_at_the_removal_is_cleared_when_it_is_back(house: House) -> None:
    device_id = house.added()
    house.say(device_id, ONLINE)
    house.broker.stop()
    house.removed(device_id)
    house.broker.start()
    house.bridge.wait_ready()
    house.is_cleared(device_id)
