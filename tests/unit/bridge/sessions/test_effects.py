"""What follows a commit, and in which order."""

import pytest

from bridge.sessions.devices import Devices
from bridge.sessions.effects import CONFIRMED, LOGOUTS, Effects
from bridge.sessions.events import Event, LogoutConfirmed, LogoutQueued, SessionEnded, SessionOpened, UserLoggedOut
from bridge.sessions.memory import LedgerMemory
from bridge.storage.records import Departed, DurableDeadline, PendingLogout, ServiceSeconds, Session, Settled
from contract.messages import EndedSession, Hello, Message
from contract.topics import Topic
from infra.settings.bridge import BridgeSettings
from tests.support.clock import ManualClock
from tests.support.harness.sessions import SessionsHarness
from tests.support.plain import run
from tests.support.posts import none_is_posted


class Witness(SessionsHarness):
    """Notes all that a Sessions says, and what memory knew when it was said."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.knew: list[tuple[str | None, int]] = []
        self.in_ledger: list[str | None] = []
        super().__init__()

    def _send(self, topic: Topic, owner: str, message: Message) -> bool:
        self._note(f"{topic.kind} to {owner}")
        return super()._send(topic, owner, message)

    def _on_event(self, event: Event) -> None:
        match event:
            case SessionOpened(session) | SessionEnded(session):
                self._note(f"{type(event).__name__} {session.uid}")
            case LogoutQueued(row):
                self._note(f"LogoutQueued {row.uid}")
            case LogoutConfirmed(device_id):
                self._note(f"LogoutConfirmed {device_id}")
            case UserLoggedOut(uid, reason):
                self._note(f"UserLoggedOut {uid} {reason}")

    def _note(self, what: str) -> None:
        self.said.append(what)
        self.knew.append((self.memory.active_sessions.user_of("jetson"), len(self.memory.outbox)))
        running = self.store.tables.running("jetson")
        self.in_ledger.append(None if running is None else running.uid)

    def take(self) -> list[str]:
        said = list(self.said)
        for notes in (self.said, self.knew, self.in_ledger):
            notes.clear()
        return said


def test_a_log_out_reaches_ledger_memory_device_and_apps_in_this_order() -> None:
    witness = Witness()
    run(witness.sessions.login("alice", "jetson", "app"))
    assert witness.take() == ["SessionOpened alice", "login to jetson"]
    run(witness.sessions.logout("alice", "app"))
    assert witness.in_ledger == [None] * 4, "nothing is said before the commit"
    assert witness.knew == [(None, 0), (None, 1), (None, 1), (None, 1)], "memory has followed each event"
    assert witness.said == [
        "SessionEnded alice",
        "LogoutQueued alice",
        "logout to jetson",
        "UserLoggedOut alice app",
    ]
    assert not witness.memory.liveness.alive("alice")


def test_a_log_in_that_replaces_somebody_tells_both_in_the_order_of_the_ledger() -> None:
    witness = Witness()
    run(witness.sessions.login("alice", "jetson", "app"))
    witness.take()
    run(witness.sessions.login("bob", "jetson", "app"))
    assert witness.knew[0] == (None, 0)
    assert set(witness.in_ledger) == {"bob"}
    assert witness.said == [
        "SessionEnded alice",
        "LogoutQueued alice",
        "SessionOpened bob",
        "logout to jetson",
        "login to jetson",
    ]


def test_a_confirmation_is_told_when_the_outbox_has_forgotten_the_row() -> None:
    witness = Witness()
    session = run(witness.sessions.login("alice", "jetson", "app"))
    run(witness.sessions.logout("alice", "app"))
    witness.take()
    ended = [EndedSession(session_id=session.session_id, reason="done")]
    run(witness.sessions.reports([("jetson", Hello(install_id="i", boot=1, seq=1, nonce="n", ended=ended))]))
    assert (witness.said, witness.knew) == (["LogoutConfirmed jetson"], [(None, 0)])


def confirmed() -> tuple[float, float]:
    """How many confirmations the metric has counted, and after how many seconds in all."""
    samples = {sample.name: sample.value for family in CONFIRMED.collect() for sample in family.samples}
    return samples["sarvis_logout_confirm_seconds_count"], samples["sarvis_logout_confirm_seconds_sum"]


def test_the_time_until_a_confirmation_is_counted() -> None:
    witness = Witness()
    session = run(witness.sessions.login("alice", "jetson", "app"))
    run(witness.sessions.logout("alice", "app"))
    count, seconds = confirmed()
    for _ in range(7):
        witness.clock.advance(1)
        run(witness.sessions.tick())
    ended = [EndedSession(session_id=session.session_id, reason="done")]
    run(witness.sessions.reports([("jetson", Hello(install_id="i", boot=1, seq=1, nonce="n", ended=ended))]))
    counted, in_all = confirmed()
    assert (counted, round(in_all - seconds, 3)) == (count + 1, 7.0)


def test_a_log_out_that_is_no_longer_needed_is_no_confirmation() -> None:
    witness = Witness()
    run(witness.sessions.login("alice", "jetson", "app"))
    run(witness.sessions.logout("alice", "app"))
    before = confirmed()
    run(witness.sessions.remove("jetson", give_up=True))
    assert confirmed() == before


def test_what_is_not_committed_has_no_event() -> None:
    witness = Witness()
    run(witness.sessions.login("alice", "jetson", "app"))
    witness.take()
    witness.store.fail = "disk full"
    with pytest.raises(Exception, match="disk full"):
        run(witness.sessions.logout("alice", "app"))
    assert witness.said == []
    assert (witness.memory.active_sessions.user_of("jetson"), witness.memory.liveness.alive("alice")) == ("alice", True)


def test_a_log_out_is_counted_by_the_bridge_that_did_it_and_by_no_other() -> None:
    clock = ManualClock()
    memory = LedgerMemory(BridgeSettings(), clock)
    effects = Effects(clock, memory, Devices(lambda *_: True, none_is_posted), lambda _: None)
    before = LOGOUTS["app"]
    effects.committed([PendingLogout("c1", "s1", "jetson", "alice", 2, "app", "then")])
    assert LOGOUTS["app"] == before + 1
    effects.follows = True
    effects.committed([PendingLogout("c2", "s2", "other", "alice", 2, "app", "then")])
    assert LOGOUTS["app"] == before + 1


def test_each_row_has_its_event_or_none() -> None:
    events: list[Event] = []
    clock = ManualClock()
    memory = LedgerMemory(BridgeSettings(), clock)
    effects = Effects(clock, memory, Devices(lambda *_: True, none_is_posted), events.append)
    opened = Session("s1", "jetson", "alice", 1)
    ended = Session("s1", "jetson", "alice", 1, "app")
    row = PendingLogout("c1", "s1", "jetson", "alice", 2, "app", "then")
    effects.committed([
        ServiceSeconds(1.0), DurableDeadline("alice", 2.0), opened, ended, row, Settled("jetson", "s1"),
        Departed("alice", 1.0, "app"),
    ])  # fmt: skip
    effects.logged_out("alice", "app")
    assert events == [
        SessionOpened(opened),
        SessionEnded(ended),
        LogoutQueued(row),
        LogoutConfirmed("jetson", "s1"),
        UserLoggedOut("alice", "app"),
    ]
