"""Two bridges on one ledger: what one changes, the memory of the other follows, in the order of the turns."""

import pytest

from bridge.sessions.events import LogoutConfirmed, LogoutQueued, SessionEnded, SessionOpened, UserLoggedOut
from bridge.storage.records import Session
from bridge.storage.store import StoreError
from contract.messages import Ack, EndedSession
from tests.support.harness.sessions import SessionsHarness
from tests.support.plain import run
from tests.support.shared_ledger import BridgeStore, SharedLedger


class OneOfTwo(SessionsHarness):
    """A bridge, and what it told its apps since it was asked last."""

    store: BridgeStore

    def looks(self) -> None:
        run(self.sessions.tick())

    def told(self) -> list[type]:
        told = [type(event) for event in self.events]
        self.events.clear()
        return told


@pytest.fixture
def bridges() -> tuple[OneOfTwo, OneOfTwo]:
    ledger = SharedLedger()
    both = OneOfTwo(store=BridgeStore(ledger, "a")), OneOfTwo(store=BridgeStore(ledger, "b"))
    for bridge in both:
        run(bridge.sessions.load())
    return both


def log_in(bridge: OneOfTwo, uid: str = "alice") -> Session:
    session: Session = run(bridge.sessions.login(uid, "jetson", "app"))
    return session


def test_a_log_in_by_one_is_known_to_the_other_when_it_looks(bridges: tuple[OneOfTwo, OneOfTwo]) -> None:
    a, b = bridges
    log_in(a)
    assert b.sessions.user_of("jetson") is None
    b.looks()
    assert b.sessions.user_of("jetson") == "alice"
    assert b.told() == [SessionOpened]
    b.looks()
    assert b.told() == []


def test_a_log_out_by_one_reaches_the_apps_of_the_other_and_its_command_goes_out_once(
    bridges: tuple[OneOfTwo, OneOfTwo],
) -> None:
    a, b = bridges
    log_in(a)
    run(b.sessions.connected("alice"))
    b.told()
    a.sent.clear()
    run(a.sessions.logout("alice", "app"))
    b.looks()
    assert b.told() == [SessionEnded, LogoutQueued, UserLoggedOut]
    assert not b.sessions.alive("alice")
    assert b.sessions.waiting == a.sessions.waiting == 1
    assert len(a.sent) == 1
    assert b.sent == []


def test_a_device_that_confirms_to_one_need_not_be_told_by_the_other(bridges: tuple[OneOfTwo, OneOfTwo]) -> None:
    a, b = bridges
    session = log_in(a)
    run(a.sessions.logout("alice", "app"))
    ended = EndedSession(session_id=session.session_id, reason="done")
    run(b.sessions.reports([("jetson", Ack(install_id="i", boot=1, seq=1, id="x", status="done", ended=(ended,)))]))
    a.told()
    a.looks()
    assert a.told() == [LogoutConfirmed]
    assert a.sessions.waiting == b.sessions.waiting == 0


def test_who_connects_after_a_log_out_that_was_not_heard_of_stays(bridges: tuple[OneOfTwo, OneOfTwo]) -> None:
    """The turn of the connection is later: it reads the log-out first, and undoes nothing afterwards."""
    a, b = bridges
    run(b.sessions.connected("alice"))
    run(a.sessions.logout("alice", "app"))
    run(b.sessions.connected("alice"))
    assert b.told() == [UserLoggedOut]
    b.looks()
    assert b.sessions.alive("alice")
    assert b.told() == []


def test_a_log_in_after_a_log_out_that_was_not_heard_of_has_a_deadline(bridges: tuple[OneOfTwo, OneOfTwo]) -> None:
    a, b = bridges
    run(b.sessions.connected("alice"))
    run(a.sessions.logout("alice", "app"))
    log_in(b)
    assert b.sessions.alive("alice")
    assert "alice" in b.store.tables.promises
    assert b.store.tables.departed == {}


def test_a_heartbeat_after_a_log_out_that_was_not_heard_of_is_not_answered_and_revives_no_user(
    bridges: tuple[OneOfTwo, OneOfTwo],
) -> None:
    a, b = bridges
    run(b.sessions.connected("alice"))
    for _ in range(round(b.settings.bridge.heartbeat_coalesce_s) + 1):
        b.clock.advance(1)
        b.looks()
    assert not b.sessions.try_heartbeat("alice"), "a commit is needed"
    run(a.sessions.logout("alice", "app"))
    assert run(b.sessions.heartbeat("alice")) is None
    b.looks()
    assert b.told() == [UserLoggedOut]
    assert "alice" not in b.store.tables.promises
    assert list(b.store.tables.departed) == ["alice"]


def test_a_log_in_on_an_occupied_device_ends_the_other_bridges_session(bridges: tuple[OneOfTwo, OneOfTwo]) -> None:
    a, b = bridges
    first = log_in(a)
    log_in(b, "bob")
    a.told()
    a.looks()
    assert a.told() == [SessionEnded, LogoutQueued, SessionOpened]
    assert a.sessions.user_of("jetson") == "bob"
    assert a.store.tables.sessions[first.session_id].ended == "replaced"


def test_what_was_read_counts_also_when_the_turn_fails(bridges: tuple[OneOfTwo, OneOfTwo]) -> None:
    a, b = bridges
    log_in(a)
    b.store.fail = "disk full"
    with pytest.raises(StoreError):
        run(b.sessions.logout("bob", "app"))
    assert b.sessions.user_of("jetson") == "alice"
    assert b.told() == [SessionOpened]


def test_a_number_that_a_failed_turn_had_is_read_when_another_has_it(bridges: tuple[OneOfTwo, OneOfTwo]) -> None:
    a, b = bridges
    b.store.fail = "disk full"
    with pytest.raises(StoreError):
        log_in(b, "bob")
    b.store.fail = None
    log_in(a)
    b.looks()
    assert b.sessions.user_of("jetson") == "alice"


def test_a_bridge_that_starts_later_knows_what_was_before_and_hears_what_comes() -> None:
    ledger = SharedLedger()
    a, b = OneOfTwo(store=BridgeStore(ledger, "a")), OneOfTwo(store=BridgeStore(ledger, "b"))
    run(a.sessions.load())
    log_in(a)
    run(b.sessions.load())
    b.looks()
    assert b.sessions.user_of("jetson") == "alice"
    assert b.told() == []
    run(a.sessions.logout("alice", "http"))
    b.looks()
    assert b.sessions.user_of("jetson") is None
    assert b.told() == [SessionEnded, LogoutQueued, UserLoggedOut]
