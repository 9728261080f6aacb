"""The audit names who caused each change: with a real bridge that requires credentials, and by the command line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from tests.integration.test_doors_of_the_bridge import House
from tests.support.processes import Sarvis, run_sarvis
from tests.support.waiting import PATIENCE_S, wait_for
from tests.support.world import HOST, Bridge, Edge, EmbeddedBroker, unique


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with House(tmp_path_factory.mktemp("audited")) as it:
        yield it


def exported(house: House, *arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in house.sarvis("audit", "export", *arguments).splitlines()]


def who(house: House, uid: str) -> list[tuple[str, str, str, str]]:
    lines = exported(house, "--about", uid)
    return [(line["event"], line["actor"], line["address"], line["via"]) for line in lines]


def test_a_log_out_by_an_operator_names_the_key_and_the_address(house: House) -> None:
    uid = unique("alice")
    assert house.post("/api/sessions/logout", house.operator, {"uid": uid}).status_code == 200
    assert who(house, uid) == [("left", f"key:{house.operator.split('_')[1]}:o", HOST, "http")]


def test_an_operator_says_why_and_the_audit_keeps_it(house: House) -> None:
    by_http, by_command = unique("alice"), unique("alice")
    answer = house.post("/api/sessions/logout", house.operator, {"uid": by_http, "note": "  잃어버린 휴대폰 "})
    assert answer.status_code == 200
    settings = house.settings | {"SARVIS_OPERATOR__API_KEY": house.operator, "SARVIS_OPERATOR__URL": house.bridge.url}
    arguments = ("sessions", "logout", by_command, "--note")
    done = run_sarvis(*arguments, "lost phone", cwd=house.folder, settings=settings)
    assert done.returncode == 0, done.stderr
    for uid, why in ((by_http, "잃어버린 휴대폰"), (by_command, "lost phone")):
        assert [line["note"] for line in exported(house, "--about", uid)] == [why]
        assert f"operator ({why})" in house.sarvis("sessions", "show", uid)


@pytest.mark.parametrize("note", ["two\nlines", "x" * 201, 7])
def test_a_reason_that_is_not_one_short_line_is_refused_and_ends_nothing(house: House, note: object) -> None:
    uid = unique("alice")
    answer = house.post("/api/sessions/logout", house.operator, {"uid": uid, "note": note})
    assert answer.status_code == 422
    assert "note" in answer.text
    if isinstance(note, str):
        settings = house.settings | {"SARVIS_OPERATOR__URL": house.bridge.url}
        done = run_sarvis("sessions", "logout", uid, "--note", note, cwd=house.folder, settings=settings)
        assert (done.returncode, "--note must be one line of at most 200" in done.stderr) == (2, True)
    assert exported(house, "--about", uid) == []


def test_a_log_out_by_a_caller_names_its_key(house: House) -> None:
    uid = unique("alice")
    assert house.post("/api/auth/logout", house.caller, {"uid": uid}).status_code == 200
    assert who(house, uid) == [("left", f"key:{house.caller.split('_')[1]}:c", HOST, "http")]


def test_a_log_out_by_the_app_names_the_app(house: House) -> None:
    uid = unique("alice")
    with connect(
        f"ws://{HOST}:{house.bridge.port}/ws/app/{uid}/",
        subprotocols=[Subprotocol("sarvis.v2"), Subprotocol(house.token(uid))],
        compression=None,
        proxy=None,
        open_timeout=PATIENCE_S,
    ) as socket:
        socket.recv()
        socket.send('{"type":"logout"}')
        wait_for("the log-out is in the audit", lambda: who(house, uid))
    assert who(house, uid) == [("left", f"app:{uid}", HOST, "socket")]


def added(house: House) -> str:
    """A new device, which needs no broker."""
    device = unique("jetson")
    house.sarvis("device", "add", device, "--logout-url", "http://127.0.0.1:9/out")
    return device


def test_a_log_in_by_the_app_names_the_app(house: House) -> None:
    uid, device = unique("alice"), added(house)
    with house.bridge.app(uid, token=house.token(uid)) as app:
        app.say({"type": "login", "device_id": device})
        app.message("login_ack")
    assert who(house, uid) == [("opened", f"app:{uid}", HOST, "socket")]


def test_a_log_in_over_http_and_a_removal_name_the_keys_and_stand_under_the_device(house: House) -> None:
    uid, device = unique("alice"), added(house)
    assert house.post("/api/auth/login", house.caller, {"uid": uid, "device_id": device}).status_code == 200
    assert house.post("/api/devices/remove", house.operator, {"device_id": device}).status_code == 200
    by_caller = f"key:{house.caller.split('_')[1]}:c"
    by_operator = f"key:{house.operator.split('_')[1]}:o"
    lines = who(house, device)
    assert ("opened", by_caller, HOST, "http") in lines
    assert ("ended", by_operator, HOST, "http") in lines
    assert ("removed", by_operator, HOST, "http") in lines


def test_what_a_device_reports_names_the_device(tmp_path: Path) -> None:
    uid, device = unique("alice"), unique("jetson")

    def told() -> list[tuple[str, str, str]]:
        done = run_sarvis("audit", "export", "--about", device, cwd=tmp_path)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        return [(line["event"], line["actor"], line["via"]) for line in lines]

    with (
        EmbeddedBroker(tmp_path) as broker,
        Bridge(tmp_path, broker.url) as bridge,
        bridge.app(uid),
        Edge(tmp_path, broker.url, device_id=device, uid=uid) as edge,
    ):
        edge.event("logged_in")
        bridge.post("/api/auth/logout", {"uid": uid})
        edge.event("logged_out")
        settled = ("settled", f"device:{device}", "mqtt")
        wait_for("the device has confirmed", lambda: settled in told())
    assert ("opened", f"device:{device}", "mqtt") in told()
    assert ("ended", "open", "http") in told()


def test_a_person_reads_the_actor_in_sessions_show(house: House) -> None:
    uid = unique("alice")
    house.post("/api/sessions/logout", house.operator, {"uid": uid})
    assert f"key:{house.operator.split('_')[1]}:o {HOST} (http)" in house.sarvis("sessions", "show", uid)


def test_an_export_goes_on_after_a_number_and_names_one_that_is_too_high(house: House) -> None:
    uids = [unique("alice"), unique("bob")]
    for uid in uids:
        house.post("/api/sessions/logout", house.operator, {"uid": uid})
    first, second = (next(line for line in exported(house) if line["uid"] == uid) for uid in uids)
    assert second["number"] == first["number"] + 1
    assert exported(house, "--after", str(first["number"])) == [second]
    done = run_sarvis("audit", "export", "--after", "1000000", cwd=house.folder, settings=house.settings)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"--after 1000000: the newest line of this ledger has the number {second['number']}" in done.stderr


def test_a_command_that_follows_prints_lines_as_they_come(house: House) -> None:
    uid = unique("alice")
    follower = Sarvis("audit", "export", "--follow", "--about", uid, cwd=house.folder, settings=house.settings)
    try:
        house.post("/api/sessions/logout", house.operator, {"uid": uid})
        wait_for("the line is printed", lambda: follower.out)
    finally:
        follower.stop()
    assert [json.loads(line)["uid"] for line in follower.out] == [uid]
