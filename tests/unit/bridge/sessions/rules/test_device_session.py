from collections.abc import Iterable
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from bridge.sessions.rules.device_session import MAX_WAITING, DeviceSession
from bridge.storage.records import Audit, Device, PendingLogout, Session, Settled
from contract.messages import EndedSession, Hello, Login, Logout, Report


class Townsfolk:
    """Users who live by a plain table of seconds left."""

    def __init__(self, **left_s: float) -> None:
        self.left_s = left_s
        self.departed: set[str] = set()

    def alive(self, uid: str) -> bool:
        return self.left_s.get(uid, 0) > 0

    def lease_s(self, uid: str) -> float:
        return self.left_s.get(uid, -120) + 120

    def first_lease_s(self) -> float:
        return 3720

    def may_adopt(self, uid: str) -> bool:
        return uid not in self.departed


def desk(
    device: Device | None = None,
    active: Session | None = None,
    pending: Iterable[PendingLogout] = (),
    known: Iterable[Session] = (),
) -> DeviceSession:
    ids = count(1)
    return DeviceSession(
        device or Device("jetson"),
        active,
        {row.session_id: row for row in pending},
        {session.session_id: session for session in known},
        "now",
        lambda: f"id{next(ids)}",
    )


def report(**changes: Any) -> Report:
    return Report.model_validate({"install_id": "i", "boot": 1, "seq": 1, **changes})


SESSION = Session("s1", "jetson", "alice", 3)
ROW = PendingLogout("c1", "s1", "jetson", "alice", 4, "app", "then")


def kinds(desk: DeviceSession) -> list[str]:
    return [change.event for change in desk.changes if isinstance(change, Audit)]


def test_opening_makes_an_active_session_and_raises_the_generation() -> None:
    it = desk(Device("jetson", generation=7))
    session = it.open("alice", "app")
    assert (session.uid, session.generation, session.ended) == ("alice", 8, None)
    assert it.active == session
    assert kinds(it) == ["opened"]


def test_opening_again_for_the_same_user_is_the_same_session() -> None:
    it = desk(active=SESSION)
    assert it.open("alice", "app") == SESSION
    assert it.changes == []


def test_opening_for_another_user_ends_the_old_session_in_the_same_transaction() -> None:
    it = desk(Device("jetson", generation=3), active=SESSION)
    session = it.open("bob", "app")
    assert kinds(it) == ["ended", "opened"]
    assert session.generation == 5
    (command,) = it.answers
    assert isinstance(command, Logout)
    assert (command.session_id, command.reason) == ("s1", "replaced")


def test_ending_writes_the_end_the_outbox_row_and_the_generation_together() -> None:
    it = desk(Device("jetson", generation=3), active=SESSION)
    row = it.end("heartbeat_timeout")
    assert row is not None
    assert Device("jetson", generation=4) in it.changes
    assert Session("s1", "jetson", "alice", 3, ended="heartbeat_timeout") in it.changes
    assert row in it.changes
    assert it.answers == [row.command()]


def test_ending_nothing_is_nothing() -> None:
    it = desk()
    assert it.end("app") is None
    assert (it.changes, it.answers) == ([], [])


def test_only_a_report_that_lists_the_session_settles_its_row() -> None:
    it = desk(pending=[ROW], known=[SESSION])
    it.answer(report(), "n", Townsfolk())
    assert not [change for change in it.changes if isinstance(change, Settled)]
    assert it.answers == [ROW.command()]
    it.answer(report(seq=2, ended=[EndedSession(session_id="s1", reason="done")]), "n2", Townsfolk())
    assert Settled("jetson", "s1") in it.changes
    assert it.answers == []


def test_a_hello_gets_the_active_session_with_its_nonce_and_lease() -> None:
    it = desk(active=SESSION)
    it.answer(report(), "nonce", Townsfolk(alice=100))
    (login,) = it.answers
    assert isinstance(login, Login)
    assert (login.session_id, login.re, login.lease_s) == ("s1", "nonce", 220)


def test_an_ack_gets_no_grant() -> None:
    it = desk(active=SESSION)
    it.answer(report(), None, Townsfolk(alice=100))
    assert it.answers == []


def test_no_grant_without_a_lease() -> None:
    it = desk(active=SESSION)
    it.answer(report(), "nonce", Townsfolk(alice=-120))
    assert it.answers == []


def test_a_claim_opens_a_session_on_a_free_device_of_a_living_user() -> None:
    it = desk()
    it.answer(report(claim_uid="alice"), "nonce", Townsfolk(alice=100))
    (login,) = it.answers
    assert isinstance(login, Login)
    assert login.uid == "alice"


@pytest.mark.parametrize(("active", "people"), [(SESSION, {"bob": 100.0, "alice": 100.0}), (None, {})])
def test_a_claim_opens_nothing_on_an_occupied_device_or_for_an_absent_user(
    active: Session | None, people: dict[str, float]
) -> None:
    it = desk(active=active)
    it.answer(report(claim_uid="bob"), "nonce", Townsfolk(**people))
    assert it.active == active


def test_a_lapse_while_the_user_lives_opens_a_new_session_at_once() -> None:
    it = desk(active=SESSION)
    it.answer(report(ended=[EndedSession(session_id="s1", reason="lapsed")]), "nonce", Townsfolk(alice=100))
    assert it.active is not None
    assert it.active.session_id != "s1"
    assert it.active.uid == "alice"


@pytest.mark.parametrize("reason", ["local", "done", "replaced"])
def test_any_other_end_at_the_device_ends_the_session_and_opens_none(reason: str) -> None:
    it = desk(active=SESSION)
    it.answer(report(ended=[{"session_id": "s1", "reason": reason}]), "nonce", Townsfolk(alice=100))
    assert it.active is None
    assert it.answers == []


def test_a_held_session_that_is_ended_gets_its_log_out() -> None:
    ended = Session("s1", "jetson", "alice", 3, ended="http")
    it = desk(known=[ended])
    it.answer(report(session_id="s1", uid="alice"), "nonce", Townsfolk(alice=100))
    (logout,) = it.answers
    assert isinstance(logout, Logout)
    assert (logout.session_id, logout.reason) == ("s1", "http")
    assert [change for change in it.changes if isinstance(change, PendingLogout)]


def test_an_unknown_held_session_is_adopted_on_a_free_device() -> None:
    it = desk()
    it.answer(report(session_id="s9", uid="alice", generation=12), "nonce", Townsfolk())
    assert it.adopted is not None
    assert it.device.generation == 13
    (login,) = it.answers
    assert isinstance(login, Login)
    assert (login.session_id, login.lease_s) == ("s9", 3720)


def test_an_unknown_held_session_of_a_user_who_left_is_ended_there() -> None:
    people = Townsfolk()
    people.departed.add("alice")
    it = desk()
    it.answer(report(session_id="s9", uid="alice"), "nonce", people)
    assert it.adopted is None
    (logout,) = it.answers
    assert isinstance(logout, Logout)
    assert logout.session_id == "s9"


def test_our_session_wins_against_an_unknown_one() -> None:
    it = desk(active=SESSION)
    it.answer(report(session_id="s9", uid="bob"), "nonce", Townsfolk(alice=100))
    (login,) = it.answers
    assert isinstance(login, Login)
    assert login.session_id == "s1"


def test_generations_never_go_down() -> None:
    it = desk(Device("jetson", generation=9))
    it.answer(report(generation=4), "nonce", Townsfolk())
    assert it.device.generation == 9


def test_the_highest_generation_that_can_be_reported_leaves_room_for_a_log_out() -> None:
    with pytest.raises(ValueError, match="generation"):
        report(generation=2**52 + 1)
    it = desk(active=SESSION)
    it.answer(report(generation=2**52), "nonce", Townsfolk(alice=100))
    row = it.end("app")
    assert row is not None
    assert row.command().generation == 2**52 + 1


def test_an_older_report_of_the_same_installation_changes_nothing() -> None:
    it = desk(Device("jetson", install_id="i", boot=2, seq=5), active=SESSION)
    for boot, seq in ((2, 4), (1, 99)):
        it.answer(
            report(boot=boot, seq=seq, ended=[EndedSession(session_id="s1", reason="done")]), "n", Townsfolk(alice=1)
        )
    assert it.active == SESSION
    assert it.changes == []


def test_another_installation_counts_from_its_own_beginning() -> None:
    it = desk(Device("jetson", install_id="old", boot=99, seq=99))
    it.answer(report(boot=1, seq=1), "n", Townsfolk())
    assert (it.device.install_id, it.device.boot) == ("i", 1)


def test_the_same_report_twice_gets_the_same_answer() -> None:
    it = desk(pending=[ROW])
    it.answer(report(), "n", Townsfolk())
    first = list(it.answers)
    it.answer(report(), "n", Townsfolk())
    assert it.answers == first


# --- where credentials are required ---


def hello(it: DeviceSession, people: Townsfolk, **changes: Any) -> list[Login | Logout]:
    it.answer(report(**changes), "nonce", people)
    return it.answers


@pytest.mark.parametrize(("assigned", "granted"), [("alice", True), ("bob", False), (None, False)])
def test_a_device_claims_only_the_user_whom_an_operator_assigned_to_it(assigned: str | None, *, granted: bool) -> None:
    it = desk(Device("jetson", assigned_uid=assigned, state="added"))
    it.strict = True
    answers = hello(it, Townsfolk(alice=60, bob=60), claim_uid="alice")
    assert [type(answer) for answer in answers] == ([Login] if granted else [])
    assert it.device.claim_uid == ("alice" if granted else None)


@pytest.mark.parametrize(("assigned", "adopted"), [("alice", True), ("bob", False), (None, False)])
def test_a_device_cannot_invent_a_session_of_somebody_else(assigned: str | None, *, adopted: bool) -> None:
    it = desk(Device("jetson", assigned_uid=assigned, state="added"))
    it.strict = True
    answers = hello(it, Townsfolk(alice=60, bob=60), session_id="invented", uid="alice")
    assert [type(answer) for answer in answers] == ([Login] if adopted else [Logout])
    assert (it.active is not None) is adopted


def test_a_removed_device_is_logged_out_and_claims_nothing_any_more() -> None:
    it = desk(Device("jetson", generation=3, claim_uid="alice", assigned_uid="alice", state="added"), active=SESSION)
    it.remove()
    assert kinds(it) == ["ended", "removed"]
    assert (it.device.state, it.device.claim_uid, it.device.assigned_uid) == ("removed", None, None)
    it.answers.clear()
    answers = hello(it, Townsfolk(alice=60), claim_uid="alice", session_id="s1", uid="alice")
    assert [type(answer) for answer in answers] == [Logout]
    it.remove(give_up=True)
    assert it.pending == {}
    assert kinds(it) == ["ended", "removed", "superseded"]


def test_a_report_older_than_what_is_known_changes_nothing_and_is_told_what_is_known() -> None:
    device = Device("jetson", "i", boot=7, seq=4, generation=3)
    for older in ({"boot": 6, "seq": 90}, {"boot": 7, "seq": 3}):
        it = desk(device, active=SESSION, pending=[ROW])
        it.answer(report(**older, ended=[EndedSession(session_id="s1", reason="done")], uid="bob"), "n", Townsfolk())
        assert (it.device, it.active, it.changes, list(it.pending)) == (device, SESSION, [], ["s1"])
        assert it.is_behind
        (told,) = it.answers
        assert isinstance(told, Login)
        assert (told.re, told.boot, told.seq, told.session_id, told.uid) == ("i", 7, 4, None, "bob")


@pytest.mark.parametrize("newer", [{"boot": 7, "seq": 4}, {"boot": 8, "seq": 0}, {"install_id": "wiped", "boot": 1}])
def test_a_report_that_is_not_older_is_told_no_numbers(newer: dict[str, Any]) -> None:
    it = desk(Device("jetson", "i", boot=7, seq=4), active=SESSION)
    it.answer(report(**newer), "n", Townsfolk(alice=60))
    assert not it.is_behind
    assert [(type(answer), answer.boot) for answer in it.answers if isinstance(answer, Login)] == [(Login, None)]


def test_of_log_outs_that_wait_the_oldest_makes_room() -> None:
    rows = [PendingLogout(f"c{n}", f"old{n}", "jetson", "alice", n, "app", "then") for n in range(MAX_WAITING)]
    it = desk(active=SESSION, pending=rows)
    it.open("bob", "app")
    assert len(it.pending) == MAX_WAITING
    assert "old0" not in it.pending
    assert list(it.pending)[-1] == "s1"
    assert kinds(it) == ["ended", "superseded", "opened"]


def test_a_device_that_still_holds_a_session_whose_log_out_made_room_is_told_again() -> None:
    ended = replace(SESSION, ended="app")
    it = desk(Device("jetson"), known=[ended])
    answers = hello(it, Townsfolk(), session_id="s1", uid="alice")
    assert [(type(answer), answer.session_id) for answer in answers] == [(Logout, "s1")]


def test_a_device_that_invents_sessions_fills_no_disk() -> None:
    it = desk(Device("jetson", state="added"))
    it.strict = True
    for number in range(200):
        answers = hello(it, Townsfolk(), seq=number + 1, session_id=f"invented-{number}", uid="alice")
        assert any(isinstance(answer, Logout) and answer.session_id == f"invented-{number}" for answer in answers)
    assert len(it.pending) == MAX_WAITING


def full(**changes: Any) -> Hello:
    return Hello.model_validate({"install_id": "i", "boot": 1, "seq": 1, "nonce": "n", **changes})


def test_what_a_device_runs_and_when_it_reported_is_kept() -> None:
    it = desk()
    it.answer(full(version="0.2.0", model="ssabiseu"), "n", Townsfolk())
    it.answer(report(seq=2), None, Townsfolk())
    it.answer(full(seq=3, version="0.3.0"), "n", Townsfolk())
    assert (it.device.version, it.device.model, it.device.seen_at) == ("0.3.0", "ssabiseu", "now")


def test_a_late_report_tells_nothing_of_what_runs() -> None:
    it = desk(Device("jetson", "i", 5, 5, version="0.3.0", seen_at="then"))
    it.answer(full(version="0.1.0"), "n", Townsfolk())
    assert (it.device.version, it.device.seen_at) == ("0.3.0", "then")


def test_only_the_beginning_of_a_name_and_what_can_be_printed_is_kept() -> None:
    it = desk()
    it.answer(full(version="\x1b[31m" + "1" * 100, model="\n"), "n", Townsfolk())
    assert (it.device.version, it.device.model) == ("[31m" + "1" * 59, "")
