"""What is done for many devices at once takes as many statements as for one, and the same comes of it."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import event

from bridge.storage.records import Change, Device, DurableDeadline, Session
from bridge.storage.sqlite.store import SqliteStore
from contract.messages import Ack, EndedSession, Hello, Login, Logout
from infra.settings.bridge import BridgeSettings
from infra.settings.loader import Settings
from tests.support.harness.sessions import SessionsHarness
from tests.support.ledgers import place

MANY = 30


class Statements:
    """Sessions on a ledger of SQLite, and what is said to it."""

    def __init__(self, store: SqliteStore) -> None:
        self.harness = SessionsHarness(
            Settings(bridge=BridgeSettings(heartbeat_timeout_s=60, restart_grace_s=0, expiry_spread_s=0)), store
        )
        self.sessions = self.harness.sessions
        self._store = store
        self.said = 0
        event.listen(store._engine.sync_engine, "before_cursor_execute", self._count)

    def _count(self, *_: object) -> None:
        self.said += 1

    def since(self) -> int:
        """Statements since the last call."""
        said, self.said = self.said, 0
        return said

    async def save(self, changes: Sequence[Change]) -> None:
        async with self._store.transaction() as transaction:
            await transaction.save(changes)
        self.since()

    def sent(self) -> list[tuple[str, type]]:
        sent = [(device_id, type(message)) for device_id, message in self.harness.sent]
        self.harness.sent.clear()
        return sent


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Statements]:
    store = await SqliteStore.open(place(tmp_path / "ledger.db"))
    yield Statements(store)
    await store.close()


def running(number: int, until_s: float = 100.0) -> list[Change]:
    session = Session(f"s{number}", f"d{number}", f"user-{number}", 1)
    return [Device(session.device_id, "i", 1, 1, 1), session, DurableDeadline(session.uid, until_s)]


def hello(number: int, **held: object) -> tuple[str, Hello]:
    said = {"install_id": "i", "boot": 1, "seq": 2, "nonce": "n", **held}
    return f"d{number}", Hello.model_validate(said)


async def test_hellos_of_many_are_answered_as_those_of_one(ledger: Statements) -> None:
    await ledger.save([change for number in range(MANY + 1) for change in running(number)])
    await ledger.sessions.load()
    ledger.since()
    await ledger.sessions.reports([hello(0, session_id="s0", uid="user-0", generation=1)])
    for_one = ledger.since()
    await ledger.sessions.reports(
        [hello(n, session_id=f"s{n}", uid=f"user-{n}", generation=1) for n in range(1, MANY + 1)]
    )
    assert ledger.since() == for_one
    assert ledger.sent() == [(f"d{number}", Login) for number in range(MANY + 1)]


async def test_what_many_devices_ended_is_settled_as_of_one(ledger: Statements) -> None:
    await ledger.save([change for number in range(MANY + 1) for change in running(number)])
    await ledger.sessions.load()
    for number in range(MANY + 1):
        await ledger.sessions.logout(f"user-{number}", "app")
    ledger.since()

    def done(number: int) -> tuple[str, Ack]:
        ended = EndedSession(session_id=f"s{number}", reason="done")
        return f"d{number}", Ack(install_id="i", boot=1, seq=2, id="a", status="done", ended=(ended,))

    await ledger.sessions.reports([done(0)])
    for_one = ledger.since()
    await ledger.sessions.reports([done(number) for number in range(1, MANY + 1)])
    assert ledger.since() == for_one
    assert ledger.sessions.waiting == 0


async def test_many_users_are_logged_out_for_silence_as_one(ledger: Statements) -> None:
    await ledger.save(running(0, until_s=50.0))
    await ledger.save([change for number in range(1, MANY + 1) for change in running(number)])
    await ledger.sessions.load()
    said = []
    for _ in range(200):
        ledger.harness.clock.advance(1)
        ledger.since()
        await ledger.sessions.tick()
        said.append((ledger.since(), ledger.sent()))
    of_one, of_many = [(count, sent) for count, sent in said if Logout in {kind for _, kind in sent}][:2]
    assert [device for device, _ in of_one[1]] == ["d0"]
    assert {device for device, _ in of_many[1]} == {f"d{number}" for number in range(1, MANY + 1)}
    assert of_many[0] == of_one[0]


async def test_a_user_with_many_http_devices_connects_as_with_one(ledger: Statements) -> None:
    claimed = [
        Device(f"d{number}", claim_uid="alice" if number else "bob", logout_url="http://127.0.0.1:1/")
        for number in range(MANY + 1)
    ]
    await ledger.save(claimed)
    await ledger.sessions.load()
    ledger.since()
    assert len((await ledger.sessions.connected("bob")).sessions) == 1
    for_one = ledger.since()
    assert len((await ledger.sessions.connected("alice")).sessions) == MANY
    assert ledger.since() == for_one


async def test_of_two_devices_with_copies_of_one_state_the_first_goes_on(ledger: Statements) -> None:
    """Both report, in one batch, a session that a restored ledger does not know."""
    await ledger.sessions.load()
    (_, report) = hello(1, session_id="s9", uid="alice", generation=4)
    await ledger.sessions.reports([("d1", report), ("d2", report)])
    assert ledger.sent() == [("d1", Login), ("d2", Logout)]
    assert ledger.sessions.user_of("d1") == "alice"
    assert ledger.sessions.user_of("d2") is None


async def test_a_report_that_ends_and_opens_leaves_the_device_with_the_new_session(ledger: Statements) -> None:
    await ledger.save([*running(1), *running(2)])
    await ledger.sessions.load()
    await ledger.sessions.connected("user-1")
    lapsed = {"ended": [{"session_id": "s1", "reason": "lapsed"}]}
    await ledger.sessions.reports([hello(1, **lapsed), hello(2, session_id="s2", uid="user-2", generation=1)])
    assert ledger.sessions.active == 2
    assert ledger.sessions.user_of("d1") == "user-1"
    async with ledger._store.transaction() as transaction:
        active = await transaction.active(["d1", "d2"])
    assert active["d1"].session_id != "s1"
    assert active["d2"].session_id == "s2"
