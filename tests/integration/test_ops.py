"""Pages of JSON for operators' programs, of a real bridge."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import run_sarvis
from tests.support.waiting import wait_for
from tests.support.world import NO_BROKER, Bridge, EmbeddedBroker, Mqtt, unique


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


def ids(rows: list[dict[str, Any]], key: str) -> list[str]:
    return [row[key] for row in rows]


def read_all(bridge: Bridge, what: str, **asked: object) -> list[dict[str, Any]]:
    """All rows, from page to page; fails for an empty page before the last."""
    told = page(bridge, what, **asked)
    rows: list[dict[str, Any]] = told["rows"]
    key = "before" if what == "wakes" else "after"
    while told["next"] is not None:
        told = page(bridge, what, **{**asked, key: told["next"]})
        assert told["rows"] or what == "wakes"
        rows += told["rows"]
    return rows


def test_users_and_log_outs_are_read_to_the_end_page_by_page_each_once(bridge: Bridge) -> None:
    mark = unique("many")
    names = [f"{mark}-{number:03}" for number in range(65)]
    for name in names:
        bridge.post("/api/auth/login", {"uid": name, "device_id": name})
    assert ids(read_all(bridge, "users", begins=mark), "uid") == names
    for name in names:
        bridge.post("/api/auth/logout", {"uid": name})
    assert page(bridge, "logouts")["next"] is not None
    assert [uid for uid in ids(read_all(bridge, "logouts"), "uid") if uid.startswith(mark)] == names


def test_wakes_are_read_to_the_end_page_by_page_of_a_user_or_of_a_device(
    bridge: Bridge, broker: EmbeddedBroker
) -> None:
    uid, device = unique("user"), unique("jetson")
    with Mqtt(broker.port) as mqtt:
        wakes = [mqtt.wake(device if number % 2 else "other", uid) for number in range(70)]
        for number, wake in enumerate(wakes):
            mqtt.outcome(device if number % 2 else "other", wake)

        def told(**asked: object) -> set[str]:
            return set(ids(read_all(bridge, "wakes", **asked), "id"))

        wait_for("all stories are written", lambda: told(uid=uid) == set(wakes))
    newest = page(bridge, "wakes", uid=uid)
    assert 0 < len(newest["rows"]) <= 60, "wakes of one millisecond are on one page"
    assert set(ids(page(bridge, "wakes", uid=uid, before=newest["next"])["rows"], "id")) == set(wakes) - set(
        ids(newest["rows"], "id")
    )
    assert told(device_id=device) == set(wakes[1::2])
    assert told(uid=uid, device_id=device) == set(wakes[1::2])
    assert told(uid=unique("absent")) == set()


def test_a_user_who_has_logged_out_is_not_alive_and_an_address_is_told_without_its_password(tmp_path: Path) -> None:
    with Bridge(tmp_path, NO_BROKER) as bridge:
        done = run_sarvis(
            "device", "add", "kitchen", "--logout-url", "http://me:of-the-house@127.0.0.1:9/out", cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        bridge.post("/api/auth/login", {"uid": "alice", "device_id": "kitchen"})
        bridge.post("/api/auth/logout", {"uid": "alice"})
        assert [row for row in page(bridge, "users")["rows"] if row["alive"]] == []
        (row,) = page(bridge, "logouts")["rows"]
        assert row["url"].endswith("127.0.0.1:9/out")
        assert "of-the-house" not in row["url"]


def test_without_stories_the_wakes_are_not_found(tmp_path: Path) -> None:
    with Bridge(tmp_path, NO_BROKER, {"SARVIS_BRIDGE__STORIES_DAYS": "0"}) as bridge:
        answer = bridge.http.get(f"{bridge.url}/api/ops/wakes")
        assert (answer.status_code, answer.json()) == (404, {"detail": "stories are off (bridge.stories_days = 0)"})


def test_a_bad_key_is_named(bridge: Bridge) -> None:
    answer = bridge.http.get(f"{bridge.url}/api/ops/logouts?after=x")
    assert (answer.status_code, "after" in answer.text) == (422, True)
