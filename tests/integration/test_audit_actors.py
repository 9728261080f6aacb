"""The audit names who caused each change: with a real bridge that requires credentials, and by the command line."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from tests.integration.test_doors_of_the_bridge import House
from tests.support.processes import Sarvis, run_sarvis
from tests.support.waiting import PATIENCE_S, wait_for
from tests.support.world import HOST, unique


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
