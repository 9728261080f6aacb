"""Pages of JSON for operators' programs, of a real bridge."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.waiting import wait_for
from tests.support.world import Bridge, EmbeddedBroker, Mqtt, unique


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(tmp_path_factory.mktemp("broker")) as it:
        yield it


@pytest.fixture(scope="module")
def bridge(broker: EmbeddedBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    with Bridge(tmp_path_factory.mktemp("bridge"), broker.url) as it:
        yield it


def page(bridge: Bridge, what: str, **asked: object) -> dict[str, Any]:
    answer = bridge.http.get(f"{bridge.url}/api/ops/{what}", params={key: str(value) for key, value in asked.items()})
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def test_devices_are_read_to_the_end_page_by_page_each_once(bridge: Bridge) -> None:
    names = [f"page-{number:03}" for number in range(130)]
    for name in names:
        bridge.post("/api/auth/login", {"uid": unique("user"), "device_id": name})
    read: list[str] = []
    after: str | None = ""
    pages = 0
    while after is not None:
        told = page(bridge, "devices", after=after, begins="page-")
        read += [row["device_id"] for row in told["rows"]]
        after, pages = told["next"], pages + 1
    assert (read, pages) == (names, 3)


def test_a_device_is_told_with_its_user_and_what_it_said(bridge: Bridge, broker: EmbeddedBroker) -> None:
    uid = unique("user")
    bridge.post("/api/auth/login", {"uid": uid, "device_id": "told-1"})
    with Mqtt(broker.port) as mqtt:
        mqtt.publish("devices/told-1/status", {"state": "online", "muted": True, "alarms": ["microphone_lost"]})
        wait_for("it is known", lambda: page(bridge, "devices", begins="told-1")["rows"][0]["state"] == "online")
    (row,) = page(bridge, "devices", begins="told-1")["rows"]
    assert (row["uid"], row["muted"], row["alarms"]) == (uid, True, ["microphone_lost"])


def test_a_user_a_log_out_and_a_wake_are_there(bridge: Bridge, broker: EmbeddedBroker) -> None:
    uid = unique("user")
    with bridge.app(uid), Mqtt(broker.port) as mqtt:
        wake_id = mqtt.wake("x", uid)
        assert page(bridge, "users", begins=uid) == {"rows": [{"uid": uid, "alive": True, "sockets": 1}], "next": None}
        wait_for("its story is written", lambda: page(bridge, "wakes", uid=uid)["rows"])
        (wake,) = page(bridge, "wakes", uid=uid)["rows"]
        assert (wake["id"], wake["uid"], wake["device_id"]) == (wake_id, uid, "x")
    bridge.post("/api/auth/login", {"uid": uid, "device_id": "away-1"})
    bridge.post("/api/auth/logout", {"uid": uid})
    (row,) = (one for one in page(bridge, "logouts")["rows"] if one["uid"] == uid)
    assert (row["device_id"], row["reason"], row["url"]) == ("away-1", "http", None)
    assert all(one["number"] > row["number"] for one in page(bridge, "logouts", after=row["number"])["rows"])


def test_a_bad_key_is_named(bridge: Bridge) -> None:
    answer = bridge.http.get(f"{bridge.url}/api/ops/logouts?after=x")
    assert (answer.status_code, "after" in answer.text) == (422, True)
