"""Two bridges on one ledger, and time: who is logged out when, by the rows, whichever bridge looks."""

import asyncio

import pytest

from bridge.sessions.events import LogoutQueued, SessionOpened, UserLoggedOut
from bridge.sessions.raising import DeadlineRaiser
from bridge.sessions.rules.shared_liveness import SharedLiveness
from bridge.storage.records import Device, DurableDeadline
from bridge.storage.store import StoreError
from contract.errors import StartError
from contract.messages import Hello, Login
from infra.settings.bridge import BridgeSettings
from infra.settings.loader import Settings
from tests.support.clock import ManualClock
from tests.support.harness.sessions import SessionsHarness
from tests.support.plain import run
from tests.support.posts import Posts, none_is_posted
from tests.support.shared_ledger import BridgeStore, SharedLedger

T, Q, GRACE = 20.0, 4.0, 6.0
TICK_S = 0.5


def settings_of(name: str, coalesce_s: float = Q) -> Settings:
    bridge = BridgeSettings(
        instance=name, heartbeat_timeout_s=T, heartbeat_coalesce_s=coalesce_s, lease_grace_s=8,
        restart_grace_s=GRACE, expiry_spread_s=0,
    )  # fmt: skip
    return Settings(bridge=bridge)


class OneOfTwo(SessionsHarness):
    store: BridgeStore

    @property
    def times(self) -> list[str]:
        """Whom it has logged out, as far as it knows."""
        return [event.uid for event in self.events if isinstance(event, UserLoggedOut)]


class Pair:
    """Bridges a and b, on one ledger and one clock."""

    def __init__(self, posts: Posts | None = None) -> None:
        self.ledger = SharedLedger()
        self.clock = ManualClock()
        self.a, self.b = (
            OneOfTwo(
                settings_of(name), BridgeStore(self.ledger, name), posts.post if posts else none_is_posted, self.clock
            )
            for name in "ab"
        )
        for bridge in (self.a, self.b):
            run(bridge.sessions.load())

    def time_passes(self, seconds: float, *bridges: OneOfTwo, beats: OneOfTwo | None = None) -> None:
        """These bridges live, both if none is named; the others stand still."""
        for _ in range(round(seconds / TICK_S)):
            self.clock.advance(TICK_S)
            for bridge in bridges or (self.a, self.b):
                run(bridge.sessions.tick())
            if beats is not None:
                assert run(beats.sessions.heartbeat("alice")) == T


@pytest.fixture
def pair() -> Pair:
    return Pair()


def test_two_bridges_advance_the_service_time_as_fast_as_one(pair: Pair) -> None:
    pair.time_passes(30)
    assert 28 <= pair.ledger.tables.seconds <= 30
    pair.time_passes(30, pair.b)
    assert 58 <= pair.ledger.tables.seconds <= 60


def test_heartbeats_at_one_count_at_the_other(pair: Pair) -> None:
    run(pair.a.sessions.connected("alice"))
    pair.time_passes(3 * T, beats=pair.a)
    assert pair.a.times == pair.b.times == []


def test_a_bridge_that_stands_still_has_its_users_ended_at_their_deadline_in_the_row_and_not_before(
    pair: Pair,
) -> None:
    run(pair.a.sessions.connected("alice"))
    pair.time_passes(T, beats=pair.a)
    until_s = pair.ledger.tables.promises["alice"].until_s
    while not pair.b.times:
        assert "alice" in pair.ledger.tables.promises
        pair.time_passes(TICK_S, pair.b)
    assert until_s <= pair.ledger.tables.seconds <= until_s + 2
    assert pair.ledger.tables.departed["alice"] >= until_s
    assert run(pair.a.sessions.heartbeat("alice")) is None, "the bridge that stood still answers no heartbeat"
    pair.time_passes(TICK_S)
    assert pair.a.times == ["alice"]


def test_who_left_here_and_came_back_there_is_there_for_both(pair: Pair) -> None:
    run(pair.a.sessions.login("alice", "jetson", "app"))
    run(pair.a.sessions.logout("alice", "app"))
    run(pair.b.sessions.connected("alice"))
    assert run(pair.a.sessions.heartbeat("alice")) == T
    assert pair.ledger.tables.is_there("alice")


def test_no_user_is_logged_out_right_after_all_bridges_stood_still(pair: Pair) -> None:
    run(pair.a.sessions.connected("alice"))
    pair.time_passes(T)
    pair.clock.advance(3600)
    pair.time_passes(GRACE - 2)
    assert pair.a.times == []
    assert pair.ledger.tables.promises["alice"].floored
    pair.time_passes(Q + GRACE)
    assert pair.a.times == ["alice"]


def test_of_more_than_a_hundred_who_are_due_all_leave_in_one_second(pair: Pair) -> None:
    for number in range(250):
        run(pair.a.sessions.connected(f"u{number}"))
    pair.time_passes(T + Q + 3)
    assert len(pair.a.times) == len(pair.b.times) == 250
    assert pair.ledger.tables.promises == {}


def test_a_database_that_is_away_logs_no_user_out_when_it_is_back(pair: Pair) -> None:
    run(pair.a.sessions.connected("alice"))
    pair.time_passes(T)
    for bridge in (pair.a, pair.b):
        bridge.store.fail = "away"
    for _ in range(60):
        pair.clock.advance(TICK_S)
        for bridge in (pair.a, pair.b):
            with pytest.raises(StoreError):
                run(bridge.sessions.tick())
    for bridge in (pair.a, pair.b):
        bridge.store.fail = None
    pair.time_passes(2)
    assert pair.a.store.problem is pair.b.store.problem is None
    assert pair.ledger.tables.promises["alice"].floored
    assert run(pair.b.sessions.heartbeat("alice")) == T
    pair.time_passes(T)
    assert pair.a.times == []


def test_the_coalescing_time_is_two_seconds_at_least() -> None:
    bridge = OneOfTwo(settings_of("a", coalesce_s=1.9), BridgeStore(SharedLedger(), "a"))
    with pytest.raises(StartError, match=r"bridge\.heartbeat_coalesce_s = 1\.9.*2 or more"):
        run(bridge.sessions.load())


def test_a_change_by_who_does_not_follow_news_takes_none_away(pair: Pair) -> None:
    """Pushes are subscribed in turns of their own."""

    async def subscribe() -> None:
        async with pair.b.store.transaction():
            pass

    run(pair.a.sessions.login("alice", "jetson", "app"))
    run(subscribe())
    run(pair.b.sessions.tick())
    assert pair.b.sessions.user_of("jetson") == "alice"


def test_a_claim_is_granted_for_a_user_of_whom_only_the_other_bridge_has_heard(pair: Pair) -> None:
    run(pair.a.sessions.connected("alice"))
    hello = Hello(install_id="i", boot=1, seq=1, nonce="n", claim_uid="alice")
    run(pair.b.sessions.reports([("jetson", hello)]))
    assert [type(event) for event in pair.b.events] == [SessionOpened]
    (grant,) = [message for _, message in pair.b.sent if isinstance(message, Login)]
    assert grant.lease_s is not None
    assert grant.lease_s <= pair.ledger.tables.promises["alice"].until_s - Q + 8 - pair.ledger.tables.seconds


def test_a_report_that_the_first_bridge_has_taken_is_not_answered_again(pair: Pair) -> None:
    hello = Hello(install_id="i", boot=1, seq=1, nonce="n")
    run(pair.a.sessions.login("alice", "jetson", "app"))
    run(pair.a.sessions.reports([("jetson", hello)]))
    run(pair.b.sessions.reports([("jetson", hello)], waited=True))
    assert pair.b.sent == []
    newer = hello.model_copy(update={"seq": 2})
    run(pair.b.sessions.reports([("jetson", newer)], waited=True))
    assert [type(message) for _, message in pair.b.sent] == [Login]


def test_a_log_out_is_repeated_by_the_first_bridge_for_its_device_alone(pair: Pair) -> None:
    run(pair.a.sessions.login("alice", "jetson", "app"))
    for bridge in (pair.a, pair.b):
        bridge.sessions._reports._there("jetson", 1)
    run(pair.a.sessions.logout("alice", "app"))
    run(pair.b.sessions.tick())
    assert [type(event) for event in pair.b.events][-2:] == [LogoutQueued, UserLoggedOut]
    for bridge in (pair.a, pair.b):
        bridge.sent.clear()
    pair.time_passes(10)
    first, other = (pair.a, pair.b) if pair.a.sessions.peers.rank("jetson") == 0 else (pair.b, pair.a)
    assert first.sent
    assert other.sent == []
    pair.time_passes(10, other)
    assert other.sent, "the first one stands still: the other one repeats it"


async def test_a_post_belongs_to_one_bridge_and_holds_up_the_session_that_it_would_hit() -> None:
    posts = Posts()
    pair = await asyncio.to_thread(Pair, posts)
    async with pair.a.store.transaction() as transaction:
        await transaction.save([Device("old-1", claim_uid="alice", logout_url="http://old-1/", state="added")])
    a, b = pair.a.sessions, pair.b.sessions
    async with a.running(), b.running():
        await a.connected("alice")
        await a.logout("alice", "app")
        while not posts.rows:
            pair.clock.advance(TICK_S)
            for sessions in (a, b):
                await sessions.tick()
            await asyncio.sleep(0)
        poster, other = (a, b) if a._outbox.busy("old-1") else (b, a)
        connecting = asyncio.create_task(other.connected("alice"))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not connecting.done()
        assert not pair.ledger.tables.is_there("alice")
        posts.end(posts.rows[0], None)
        found = await connecting
        assert [session.device_id for session in found.sessions] == ["old-1"]
        await poster.tick()
        assert len(posts.rows) == 1


class SlowStore(BridgeStore):
    """Its statement for deadlines waits until it may."""

    def __init__(self) -> None:
        super().__init__(SharedLedger(), "a")
        self.may = asyncio.Event()
        self.asked: list[set[str]] = []

    async def raise_deadlines(self, uids: object, for_s: float) -> dict[str, float]:
        assert isinstance(uids, set)
        self.asked.append(set(uids))
        await self.may.wait()
        return await super().raise_deadlines(uids, for_s)


async def test_heartbeats_that_come_while_one_is_stored_share_the_next_statement() -> None:
    store = SlowStore()
    for uid in ("alice", "bob", "carol"):
        store.tables.apply(DurableDeadline(uid, 1.0))
    raiser = DeadlineRaiser(store, SharedLiveness(settings_of("a").bridge, ManualClock()), 24.0)
    waiting = [asyncio.create_task(raiser.raised("alice"))]
    await asyncio.sleep(0)
    waiting += [asyncio.create_task(raiser.raised(uid)) for uid in ("bob", "carol", "unknown", "bob")]
    await asyncio.sleep(0)
    store.may.set()
    assert await asyncio.gather(*waiting) == [True, True, True, False, True]
    assert store.asked == [{"alice"}, {"bob", "carol", "unknown"}]


async def test_all_heartbeats_of_a_statement_that_failed_fail_and_the_next_is_tried_anew() -> None:
    store = SlowStore()
    store.tables.apply(DurableDeadline("alice", 1.0))
    store.may.set()
    raiser = DeadlineRaiser(store, SharedLiveness(settings_of("a").bridge, ManualClock()), 24.0)
    store.fail = "away"
    answers = await asyncio.gather(raiser.raised("alice"), raiser.raised("bob"), return_exceptions=True)
    assert [type(answer) for answer in answers] == [StoreError, StoreError]
    store.fail = None
    assert await raiser.raised("alice")
