import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bridge.sessions import reports
from bridge.sessions.errors import DeviceBehindError, NoSuchDeviceError
from bridge.sessions.events import Event, SessionEnded, UserLoggedOut
from bridge.sessions.rules.device_session import MAX_WAITING
from bridge.storage.memory import MemoryStore
from bridge.storage.records import By, Device, PushSubscription, Session
from bridge.storage.store import Transaction
from contract.messages import Ack, DeviceStatus, EndedSession, Hello, Login, Logout, LogoutReason, Message
from infra.settings.bridge import AuthSettings, BridgeSettings
from infra.settings.loader import Settings
from tests.support.harness.sessions import SessionsHarness
from tests.support.plain import run

T = 3600.0


class TimeoutHarness(SessionsHarness):
    """Sessions whose devices say hello, and whose time passes second by second."""

    def __init__(self, settings: Settings | None = None, store: MemoryStore | None = None) -> None:
        self.ended: list[Session] = []
        self.gone: list[tuple[str, LogoutReason]] = []
        self.fails_over: type[Event] | None = None
        self._seq = 0
        super().__init__(settings, store)

    def _on_event(self, event: Event) -> None:
        if self.fails_over is type(event):
            raise RuntimeError("a socket")
        match event:
            case SessionEnded(session):
                self.ended.append(session)
            case UserLoggedOut(uid, reason):
                self.gone.append((uid, reason))

    def take(self) -> list[Message]:
        messages = [message for _, message in self.sent]
        self.sent.clear()
        return messages

    def hello(self, device_id: str = "jetson", **changes: Any) -> list[Message]:
        self._seq += 1
        self.take()
        report = Hello.model_validate({"install_id": "i", "boot": 1, "seq": self._seq, "nonce": "n", **changes})
        run(self.sessions.reports([(device_id, report)]))
        return self.take()

    def live(self, seconds: float) -> None:
        """Time passes, in the steps in which the service looks at it."""
        for _ in range(round(seconds)):
            self.clock.advance(1)
            run(self.sessions.tick())


@pytest.fixture
def harness() -> TimeoutHarness:
    return TimeoutHarness()


def test_a_device_that_claims_a_user_is_asked_when_the_user_connects(harness: TimeoutHarness) -> None:
    assert harness.hello(claim_uid="alice") == []
    run(harness.sessions.connected("alice"))
    (poke,) = harness.take()
    assert isinstance(poke, Login)
    assert poke.re is None
    (grant,) = harness.hello(claim_uid="alice")
    assert isinstance(grant, Login)
    assert (grant.re, grant.uid, grant.lease_s) == ("n", "alice", T + 120)
    assert harness.sessions.user_of("jetson") == "alice"


def test_silence_for_the_whole_time_out_logs_out(harness: TimeoutHarness) -> None:
    run(harness.sessions.connected("alice"))
    run(harness.sessions.login("alice", "jetson", "app"))
    harness.live(T - 1)
    assert harness.gone == []
    harness.live(1)
    assert harness.gone == [("alice", "heartbeat_timeout")]
    logouts = [m for m in harness.take() if isinstance(m, Logout)]
    assert [m.reason for m in logouts] == ["heartbeat_timeout"]
    assert harness.sessions.user_of("jetson") is None


def test_a_heartbeat_moves_the_deadline(harness: TimeoutHarness) -> None:
    run(harness.sessions.connected("alice"))
    harness.live(T - 1)
    assert run(harness.sessions.heartbeat("alice")) == T
    harness.live(T - 1)
    assert harness.gone == []
    harness.live(1)
    assert harness.gone == [("alice", "heartbeat_timeout")]


@pytest.mark.parametrize("sign", ["connected", "heartbeat"])
def test_a_deadline_counts_from_the_sign_of_life_not_from_the_last_look_at_the_clock(
    harness: TimeoutHarness, sign: str
) -> None:
    run(harness.sessions.connected("alice"))
    harness.clock.advance(0.75)
    run(getattr(harness.sessions, sign)("alice"))
    for _ in range(round(T) * 4 - 1):
        harness.clock.advance(0.25)
        run(harness.sessions.tick())
    assert harness.gone == []
    harness.clock.advance(0.25)
    run(harness.sessions.tick())
    assert harness.gone == [("alice", "heartbeat_timeout")]


def test_a_heartbeat_after_a_log_out_is_not_answered_and_revives_no_user(harness: TimeoutHarness) -> None:
    run(harness.sessions.connected("alice"))
    run(harness.sessions.logout("alice", "app"))
    assert run(harness.sessions.heartbeat("alice")) is None
    assert not harness.sessions.alive("alice")


def test_an_hour_asleep_is_no_silence_of_the_user(harness: TimeoutHarness) -> None:
    run(harness.sessions.connected("alice"))
    harness.clock.advance(T)
    run(harness.sessions.tick())
    assert harness.gone == []


def test_a_claim_never_logs_an_absent_user_in_again(harness: TimeoutHarness) -> None:
    run(harness.sessions.connected("alice"))
    harness.hello(claim_uid="alice")
    run(harness.sessions.logout("alice", "app"))
    session_id = harness.ended[-1].session_id
    answers = harness.hello(claim_uid="alice", ended=[EndedSession(session_id=session_id, reason="done").model_dump()])
    assert answers == []


def test_a_log_out_is_repeated_at_every_hello_until_the_device_lists_it(harness: TimeoutHarness) -> None:
    run(harness.sessions.login("alice", "jetson", "app"))
    run(harness.sessions.logout("alice", "http"))
    session_id = harness.ended[-1].session_id
    for _ in range(3):
        (again,) = harness.hello(session_id=session_id, uid="alice")
        assert isinstance(again, Logout)
        assert again.session_id == session_id
    assert harness.hello(ended=[{"session_id": session_id, "reason": "done"}]) == []
    assert harness.hello() == []


def test_a_log_out_is_repeated_to_a_device_that_is_online(harness: TimeoutHarness) -> None:
    run(harness.sessions.login("alice", "jetson", "app"))
    harness.sessions.device_status("jetson", DeviceStatus(state="online", boot=1))
    run(harness.sessions.logout("alice", "http"))
    harness.take()
    harness.live(10)
    repeated = [m for m in harness.take() if isinstance(m, Logout)]
    assert len(repeated) >= 2
    assert len({m.id for m in repeated}) == 1
    run(harness.sessions.reports([("jetson", Ack.model_validate({
        "install_id": "i", "boot": 1, "seq": 1, "id": repeated[0].id, "status": "done",
        "ended": [{"session_id": repeated[0].session_id, "reason": "done"}]}))]))  # fmt: skip
    harness.live(200)
    assert not [m for m in harness.take() if isinstance(m, Logout)]


def test_another_users_login_replaces_and_tells_the_first(harness: TimeoutHarness) -> None:
    run(harness.sessions.login("alice", "jetson", "app"))
    run(harness.sessions.login("bob", "jetson", "app"))
    assert [(s.uid, s.ended) for s in harness.ended] == [("alice", "replaced")]
    assert harness.sessions.user_of("jetson") == "bob"
    assert harness.gone == []


def test_one_user_may_use_several_devices_and_leaves_all(harness: TimeoutHarness) -> None:
    for device_id in ("kitchen", "hall"):
        run(harness.sessions.login("alice", device_id, "app"))
    assert run(harness.sessions.logout("alice", "http")) == 2
    assert sorted(owner for owner, m in harness.sent if isinstance(m, Logout)) == ["hall", "kitchen"]


def test_logging_out_someone_unknown_ends_nothing(harness: TimeoutHarness) -> None:
    assert run(harness.sessions.logout("nobody", "http")) == 0
    assert harness.gone == [("nobody", "http")]


def test_an_adopted_session_gets_a_deadline_of_its_own(harness: TimeoutHarness) -> None:
    (grant,) = harness.hello(session_id="s9", uid="alice", generation=4)
    assert isinstance(grant, Login)
    assert grant.session_id == "s9"
    harness.live(T)
    assert harness.gone == [("alice", "heartbeat_timeout")]
    assert [s.session_id for s in harness.ended] == ["s9"]


def test_every_change_leaves_an_audit_line(harness: TimeoutHarness) -> None:
    run(harness.sessions.login("alice", "jetson", "app"))
    run(harness.sessions.logout("alice", "http"))
    harness.hello(ended=[{"session_id": harness.ended[0].session_id, "reason": "done"}])
    assert [(line.event, line.reason) for line in harness.store.audit] == [
        ("opened", "app"), ("ended", "http"), ("settled", "done"),
    ]  # fmt: skip


class SlowStore(MemoryStore):
    """Its commits wait until they may."""

    def __init__(self) -> None:
        super().__init__()
        self.may_commit = asyncio.Event()
        self.may_commit.set()

    @asynccontextmanager
    async def transaction(self, *, with_news: bool = False) -> AsyncIterator[Transaction]:
        async with super().transaction(with_news=with_news) as transaction:
            yield transaction
            await self.may_commit.wait()


async def test_who_connects_at_the_last_moment_while_others_are_served_is_not_logged_out() -> None:
    store = SlowStore()
    harness = TimeoutHarness(Settings(bridge=BridgeSettings(heartbeat_timeout_s=10)), store)
    await harness.sessions.connected("alice")
    for _ in range(10):
        await harness.sessions.tick()
        harness.clock.advance(0.99)
    await harness.sessions.tick()
    harness.clock.advance(0.2)  # she is due; service time was written a moment ago
    store.may_commit.clear()
    other = asyncio.create_task(harness.sessions.login("bob", "jetson", "app"))
    await asyncio.sleep(0)
    back = asyncio.create_task(harness.sessions.connected("alice"))
    await asyncio.sleep(0)
    tick = asyncio.create_task(harness.sessions.tick())
    await asyncio.sleep(0)
    store.may_commit.set()
    await asyncio.gather(other, back, tick)
    assert harness.gone == []
    assert harness.sessions.alive("alice")


def test_a_fault_after_the_commit_brings_nobody_back_to_life(harness: TimeoutHarness) -> None:
    run(harness.sessions.connected("alice"))
    harness.fails_over = UserLoggedOut
    with pytest.raises(RuntimeError):
        run(harness.sessions.logout("alice", "app"))
    assert not harness.sessions.alive("alice")
    assert run(harness.sessions.heartbeat("alice")) is None


# --- devices that an operator added or took out ---


def test_with_required_credentials_no_user_logs_in_on_a_device_that_was_not_added() -> None:
    harness = TimeoutHarness(Settings(auth=AuthSettings(mode="required")))
    with pytest.raises(NoSuchDeviceError, match="sarvis device add"):
        run(harness.sessions.login("alice", "jetson", "app"))
    assert not harness.store.tables.devices
    harness.store.tables.devices["jetson"] = Device("jetson", state="added")
    assert run(harness.sessions.login("alice", "jetson", "app")).uid == "alice"


def test_a_removed_device_is_logged_out_and_nobody_logs_in_there_again() -> None:
    harness = TimeoutHarness()
    session = run(harness.sessions.login("alice", "jetson", "app"))
    harness.take()
    assert run(harness.sessions.remove("jetson", give_up=False)) == 1
    assert [type(message) for message in harness.take()] == [Logout]
    assert [ended.session_id for ended in harness.ended] == [session.session_id]
    with pytest.raises(NoSuchDeviceError):
        run(harness.sessions.login("alice", "jetson", "app"))
    assert run(harness.sessions.remove("jetson", give_up=True)) == 0
    assert harness.sessions.waiting == 0
    with pytest.raises(NoSuchDeviceError):
        run(harness.sessions.remove("never-seen", give_up=False))


def test_users_who_take_turns_on_a_device_that_is_away_fill_no_disk() -> None:
    harness = TimeoutHarness()
    for number in range(2 * MAX_WAITING):
        assert run(harness.sessions.login(f"user-{number % 2}", "jetson", "app")).uid == f"user-{number % 2}"
    assert harness.sessions.waiting == len(harness.store.tables.pending) == MAX_WAITING
    ended = [EndedSession(session_id=row.session_id, reason="done") for row in harness.store.tables.pending.values()]
    harness.hello(ended=[entry.model_dump() for entry in ended[-8:]])
    assert harness.sessions.waiting == MAX_WAITING - 8


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """What the log is warned of."""
    told: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(reports.log, "warning", lambda event, **more: told.append((event, more)))
    return told


def test_a_device_that_stays_behind_is_named_once_and_log_ins_there_fail(
    warnings: list[tuple[str, dict[str, Any]]],
) -> None:
    harness = TimeoutHarness()
    harness.hello(boot=200)
    for _ in range(4):
        (told,) = harness.hello(boot=3, claim_uid="alice")
        assert isinstance(told, Login)
        assert (told.boot, told.re, told.session_id) == (200, "i", None)
        harness.live(2)
    with pytest.raises(DeviceBehindError, match="jetson runs with an older copy of its state"):
        run(harness.sessions.login("alice", "jetson", "app"))
    ((event, more),) = warnings
    assert (event, more["device_id"], more["boot"], more["known_boot"]) == ("device_behind", "jetson", 3, 200)
    harness.hello(boot=201)
    assert run(harness.sessions.login("alice", "jetson", "app")).uid == "alice"


def test_a_device_that_has_gone_beyond_is_named_once(warnings: list[tuple[str, dict[str, Any]]]) -> None:
    harness = TimeoutHarness()
    for boot in (200, 3, 201, 201):
        harness.hello(boot=boot)
    assert [(event, more["device_id"]) for event, more in warnings] == [("device_state_went_back", "jetson")]


def test_a_late_report_says_nothing_of_where_its_device_is() -> None:
    harness = TimeoutHarness()
    harness.hello(boot=2)
    harness.hello(boot=1)
    harness.sessions.device_status("jetson", DeviceStatus(state="offline", boot=2))
    run(harness.sessions.login("alice", "jetson", "app"))
    run(harness.sessions.logout("alice", "app"))
    harness.live(11)
    harness.take()
    harness.live(70)
    assert harness.take() == [], "nothing is repeated for a device whose last will came"


@pytest.mark.parametrize("reason", ["app", "http", "operator"])
def test_whoever_logs_out_is_subscribed_to_no_push_any_more(harness: TimeoutHarness, reason: LogoutReason) -> None:
    alice, bob = (PushSubscription(uid, f"https://push.example/{uid}", "p", "a") for uid in ("alice", "bob"))
    harness.store.tables.subscriptions = [alice, bob]
    run(harness.sessions.connected("alice"))
    run(harness.sessions.logout("alice", reason))
    assert harness.store.tables.subscriptions == [bob]
    run(harness.sessions.logout("nobody", reason))
    assert harness.store.tables.subscriptions == [bob]


def test_silence_is_what_a_sleeping_phone_does_and_unsubscribes_nobody(harness: TimeoutHarness) -> None:
    alice = PushSubscription("alice", "https://push.example/alice", "p", "a")
    harness.store.tables.subscriptions = [alice]
    run(harness.sessions.connected("alice"))
    harness.live(T + 1)
    assert harness.gone == [("alice", "heartbeat_timeout")]
    assert harness.store.tables.subscriptions == [alice]


def test_the_audit_names_who_caused_each_change() -> None:
    harness = TimeoutHarness()
    run(harness.sessions.login("alice", "jetson", "http", By("key:1:shop", "192.0.2.7", "http")))
    harness.hello()
    run(harness.sessions.logout("alice", "app", By("app:alice", "192.0.2.8", "socket")))
    run(harness.sessions.login("bob", "jetson", "app", By("app:bob", "", "socket")))
    harness.live(T + 1)
    run(harness.sessions.remove("jetson", give_up=True, by=By("user:root", "", "cli")))
    lines = [(line.event, line.uid, line.actor, line.address, line.via) for line in harness.store.audit]
    assert ("opened", "alice", "key:1:shop", "192.0.2.7", "http") in lines
    assert ("ended", "alice", "app:alice", "192.0.2.8", "socket") in lines
    assert ("opened", "bob", "app:bob", "", "socket") in lines
    assert ("ended", "bob", "time-out", "", "expiry") in lines
    assert [line for line in lines if line[0] == "removed"] == [("removed", "", "user:root", "", "cli")]
    assert not [line for line in lines if not line[2]], "a line without an actor"
