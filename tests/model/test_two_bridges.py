"""Two bridges, the real Sessions of both, on one ledger: random histories in which either may stand still or fail.

After each has looked, both have in memory what the ledger holds. A user whose heartbeat was answered is not logged out
for silence before T later; one who logged out is not there by a heartbeat that came before.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from random import Random
from unittest.mock import patch

import pytest

from bridge.sessions.events import Event, UserLoggedOut
from bridge.sessions.rules.shared_liveness import SharedLiveness
from bridge.sessions.service import Sessions
from bridge.storage.memory import Tables
from bridge.storage.news import NewsCursor
from bridge.storage.records import DurableDeadline
from bridge.storage.store import StoreError
from contract.messages import Ack, EndedSession, Hello
from infra.settings.bridge import BridgeSettings
from infra.settings.loader import Settings
from tests.support.clock import ManualClock
from tests.support.harness.sessions import SessionsHarness
from tests.support.plain import run
from tests.support.posts import none_is_posted
from tests.support.shared_ledger import BridgeStore, SharedLedger

T, Q, GRACE = 10.0, 3.0, 2.0
STEP_S = 0.5
STEPS = 120
USERS = ("alice", "bob")
DEVICES = ("jetson", "kitchen")


class OneBridge(SessionsHarness):
    """A bridge that may stand still."""

    store: BridgeStore

    def __init__(self, name: str, ledger: SharedLedger, clock: ManualClock, world: "World") -> None:
        self.name = name
        self.world = world
        self.stands_until = 0.0
        settings = Settings(
            bridge=BridgeSettings(
                instance=name, heartbeat_timeout_s=T, heartbeat_coalesce_s=Q, lease_grace_s=4,
                restart_grace_s=GRACE, expiry_spread_s=0,
            )
        )  # fmt: skip
        super().__init__(settings, BridgeStore(ledger, name), none_is_posted, clock)

    def _on_event(self, event: Event) -> None:
        self.world.hears(self, event)


class World:
    def __init__(self, seed: int) -> None:
        self.chance = Random(seed)  # noqa: S311
        self.clock = ManualClock()
        self.ledger = SharedLedger()
        self.answered_at: dict[str, float] = {}
        """The last heartbeat or connection of each user that was answered, and not followed by a log-out."""
        self.seq = 0
        self.bridges = [OneBridge(name, self.ledger, self.clock, self) for name in "ab"]
        for bridge in self.bridges:
            run(bridge.sessions.load())

    def hears(self, bridge: OneBridge, event: Event) -> None:
        if isinstance(event, UserLoggedOut) and event.reason == "heartbeat_timeout":
            left_s = self.ledger.tables.departed.get(event.uid)
            if left_s is None or bridge.store.tables.lifetime(event.uid) is None:
                return  # came back since
            answered = self.answered_at.pop(event.uid, None)
            assert answered is None or self.clock.monotonic() - answered >= T, f"{event.uid} left early"

    def step(self) -> None:
        self.clock.advance(STEP_S * self.chance.randrange(2))
        bridge = self.chance.choice(self.bridges)
        if bridge.stands_until > self.clock.monotonic():
            return
        acts: dict[Callable[[Sessions, OneBridge], None], float] = {
            self.looks: 12, self.beats: 8, self.connects: 2, self.logs_in: 2, self.logs_out: 1.5, self.reports: 3,
            self.stands: 0.7, self.fails: 0.7,
        }  # fmt: skip
        with suppress(StoreError):
            self.chance.choices(list(acts), list(acts.values()))[0](bridge.sessions, bridge)

    def looks(self, sessions: Sessions, _bridge: OneBridge) -> None:
        run(sessions.tick())

    def beats(self, sessions: Sessions, _bridge: OneBridge) -> None:
        uid = self.chance.choice(USERS)
        if run(sessions.heartbeat(uid)) is not None and self.ledger.tables.is_there(uid):
            self.answered_at[uid] = self.clock.monotonic()

    def connects(self, sessions: Sessions, _bridge: OneBridge) -> None:
        uid = self.chance.choice(USERS)
        run(sessions.connected(uid))
        self.answered_at[uid] = self.clock.monotonic()
        assert self.ledger.tables.is_there(uid)

    def logs_in(self, sessions: Sessions, _bridge: OneBridge) -> None:
        run(sessions.login(self.chance.choice(USERS), self.chance.choice(DEVICES), "app"))

    def logs_out(self, sessions: Sessions, _bridge: OneBridge) -> None:
        uid = self.chance.choice(USERS)
        run(sessions.logout(uid, "app"))
        self.answered_at.pop(uid, None)
        assert not self.ledger.tables.is_there(uid)
        assert run(sessions.heartbeat(uid)) is None

    def reports(self, sessions: Sessions, _bridge: OneBridge) -> None:
        """A device that has ended all it was told to end."""
        device_id = self.chance.choice(DEVICES)
        self.seq += 1
        rows = [row for row in self.ledger.tables.pending.values() if row.device_id == device_id]
        ended = tuple(EndedSession(session_id=row.session_id, reason="done") for row in rows)
        claim = self.chance.choice(USERS)
        message = (
            Ack(install_id="i", boot=1, seq=self.seq, id="x", status="done", ended=ended)
            if self.chance.random() < 0.5
            else Hello(install_id="i", boot=1, seq=self.seq, nonce="n", claim_uid=claim, ended=ended)
        )
        run(sessions.reports([(device_id, message)], waited=self.chance.random() < 0.3))

    def stands(self, _sessions: Sessions, bridge: OneBridge) -> None:
        bridge.stands_until = self.clock.monotonic() + self.chance.randrange(1, 30)

    def fails(self, sessions: Sessions, bridge: OneBridge) -> None:
        bridge.store.fail = "away"
        try:
            self.chance.choice([self.looks, self.beats, self.connects, self.logs_in, self.logs_out])(sessions, bridge)
        finally:
            bridge.store.fail = None

    def check_memory(self) -> None:
        for bridge in self.bridges:
            run(bridge.sessions.tick())
        for bridge in self.bridges:
            run(bridge.sessions.tick())
            tables = self.ledger.tables
            running = {row.device_id: row.uid for row in tables.sessions.values() if row.ended is None}
            known = {name: bridge.sessions.user_of(name) for name in DEVICES}
            assert {name: uid for name, uid in known.items() if uid is not None} == running
            assert bridge.sessions.waiting == len(tables.pending)
            for uid in USERS:
                assert tables.lifetime(uid) is None or tables.is_there(uid) or not bridge.sessions.try_heartbeat(uid)


def live(seed: int) -> None:
    """One history; raises AssertionError when something does not hold."""
    world = World(seed)
    for number in range(STEPS):
        world.step()
        if number % 20 == 19:
            for bridge in world.bridges:
                bridge.stands_until = 0.0
            world.check_memory()


def live_all(histories: int) -> None:
    for seed in range(histories):
        live(seed)


def test_no_history_breaks_a_promise_or_leaves_a_memory_behind() -> None:
    live_all(60)


def _a_late_heartbeat_revives() -> AbstractContextManager[object]:
    async def raise_all(self: BridgeStore, uids: set[str], for_s: float) -> dict[str, float]:
        for uid in uids:
            self.tables.apply(DurableDeadline(uid, self.tables.seconds + for_s))
        return {uid: self.tables.promises[uid].until_s for uid in uids}

    return patch.object(BridgeStore, "raise_deadlines", raise_all)


def _deadlines_are_lowered() -> AbstractContextManager[object]:
    def promise(self: Tables, promise: DurableDeadline) -> None:
        self.departed.pop(promise.uid, None)
        self.promises[promise.uid] = DurableDeadline(promise.uid, promise.until_s - 2 * Q)

    return patch.object(Tables, "_promise", promise)


def _who_left_is_kept_in_memory() -> AbstractContextManager[object]:
    return patch.object(SharedLiveness, "left", lambda self, uid: self._leaving.discard(uid))


def _news_are_skipped() -> AbstractContextManager[object]:
    return patch.object(NewsCursor, "_new", lambda _self, _rows: [])


WRONG = [_a_late_heartbeat_revives, _deadlines_are_lowered, _who_left_is_kept_in_memory, _news_are_skipped]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.__name__.strip("_"))
def test_a_wrong_rule_is_found(wrong: Callable[[], AbstractContextManager[object]]) -> None:
    with wrong(), pytest.raises(AssertionError):
        live_all(30)
