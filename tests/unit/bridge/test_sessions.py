import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bridge import sessions
from bridge.ledger import MAX_WAITING
from bridge.rows import Device, PushSubscription, Session
from bridge.sessions import DeviceBehindError, NoSuchDeviceError, Sessions
from bridge.store import Transaction
from contract.messages import Ack, DeviceStatus, EndedSession, Hello, Login, Logout, LogoutReason, Message
from contract.sections.bridge import BridgeSettings
from contract.topics import Topic
from tests.support.clock import ManualClock
from tests.support.memory_store import MemoryStore
from tests.support.plain import run

T = 3600.0


class Town:
    """A Sessions on a memory store, what it sent and what it told."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.sent: list[tuple[str, Message]] = []
        self.ended: list[Session] = []
        self.gone: list[tuple[str, LogoutReason]] = []
        self.store = MemoryStore()
        self.sessions = Sessions(
            self.store,
            BridgeSettings(),
            self.clock,
            send=self._send,
            on_ended=self.ended.append,
            on_gone=lambda uid, reason: self.gone.append((uid, reason)),
        )
        self._seq = 0

    def _send(self, topic: Topic, owner: str, message: Message) -> bool:
        assert topic.model is type(message)
        self.sent.append((owner, message))
        return True

    def take(self) -> list[Message]:
        messages = [message for _, message in self.sent]
        self.sent.clear()
        return messages

    def hello(self, device_id: str = "jetson", **changes: Any) -> list[Message]:
        self._seq += 1
        self.take()
        report = Hello.model_validate({"install_id": "i", "boot": 1, "seq": self._seq, "nonce": "n", **changes})
        run(self.sessions.report(device_id, report))
        return self.take()

    def live(self, seconds: float) -> None:
        """Time passes, in the steps in which the service looks at it."""
        for _ in range(round(seconds)):
            self.clock.advance(1)
            run(self.sessions.tick())


@pytest.fixture
def town() -> Town:
    return Town()


def test_a_device_that_claims_a_user_is_asked_when_the_user_connects(town: Town) -> None:
    assert town.hello(claim_uid="alice") == []
    run(town.sessions.connected("alice"))
    (poke,) = town.take()
    assert isinstance(poke, Login)
    assert poke.re is None
    (grant,) = town.hello(claim_uid="alice")
    assert isinstance(grant, Login)
    assert (grant.re, grant.uid, grant.lease_s) == ("n", "alice", T + 120)
    assert town.sessions.user_of("jetson") == "alice"


def test_silence_for_the_whole_time_out_logs_out(town: Town) -> None:
    run(town.sessions.connected("alice"))
    run(town.sessions.login("alice", "jetson", "app"))
    town.live(T - 1)
    assert town.gone == []
    town.live(1)
    assert town.gone == [("alice", "heartbeat_timeout")]
    logouts = [m for m in town.take() if isinstance(m, Logout)]
    assert [m.reason for m in logouts] == ["heartbeat_timeout"]
    assert town.sessions.user_of("jetson") is None


def test_a_heartbeat_moves_the_deadline(town: Town) -> None:
    run(town.sessions.connected("alice"))
    town.live(T - 1)
    assert run(town.sessions.heartbeat("alice")) == T
    town.live(T - 1)
    assert town.gone == []
    town.live(1)
    assert town.gone == [("alice", "heartbeat_timeout")]


@pytest.mark.parametrize("sign", ["connected", "heartbeat"])
def test_a_deadline_counts_from_the_sign_of_life_not_from_the_last_look_at_the_clock(town: Town, sign: str) -> None:
    run(town.sessions.connected("alice"))
    town.clock.advance(0.75)
    run(getattr(town.sessions, sign)("alice"))
    for _ in range(round(T) * 4 - 1):
        town.clock.advance(0.25)
        run(town.sessions.tick())
    assert town.gone == []
    town.clock.advance(0.25)
    run(town.sessions.tick())
    assert town.gone == [("alice", "heartbeat_timeout")]


def test_a_heartbeat_of_someone_who_left_is_not_answered_and_revives_nobody(town: Town) -> None:
    run(town.sessions.connected("alice"))
    run(town.sessions.logout("alice", "app"))
    assert run(town.sessions.heartbeat("alice")) is None
    assert not town.sessions.alive("alice")


def test_an_hour_asleep_is_no_silence_of_the_user(town: Town) -> None:
    run(town.sessions.connected("alice"))
    town.clock.advance(T)
    run(town.sessions.tick())
    assert town.gone == []


def test_a_claim_never_logs_an_absent_user_in_again(town: Town) -> None:
    run(town.sessions.connected("alice"))
    town.hello(claim_uid="alice")
    run(town.sessions.logout("alice", "app"))
    session_id = town.ended[-1].session_id
    answers = town.hello(claim_uid="alice", ended=[EndedSession(session_id=session_id, reason="done").model_dump()])
    assert answers == []


def test_a_log_out_is_repeated_at_every_hello_until_the_device_lists_it(town: Town) -> None:
    run(town.sessions.login("alice", "jetson", "app"))
    run(town.sessions.logout("alice", "http"))
    session_id = town.ended[-1].session_id
    for _ in range(3):
        (again,) = town.hello(session_id=session_id, uid="alice")
        assert isinstance(again, Logout)
        assert again.session_id == session_id
    assert town.hello(ended=[{"session_id": session_id, "reason": "done"}]) == []
    assert town.hello() == []


def test_a_log_out_is_repeated_to_a_device_that_is_online(town: Town) -> None:
    run(town.sessions.login("alice", "jetson", "app"))
    town.sessions.device_status("jetson", DeviceStatus(state="online", boot=1))
    run(town.sessions.logout("alice", "http"))
    town.take()
    town.live(10)
    repeated = [m for m in town.take() if isinstance(m, Logout)]
    assert len(repeated) >= 2
    assert len({m.id for m in repeated}) == 1
    run(town.sessions.report("jetson", Ack.model_validate({
        "install_id": "i", "boot": 1, "seq": 1, "id": repeated[0].id, "status": "done",
        "ended": [{"session_id": repeated[0].session_id, "reason": "done"}]})))  # fmt: skip
    town.live(200)
    assert not [m for m in town.take() if isinstance(m, Logout)]


def test_another_users_login_replaces_and_tells_the_first(town: Town) -> None:
    run(town.sessions.login("alice", "jetson", "app"))
    run(town.sessions.login("bob", "jetson", "app"))
    assert [(s.uid, s.ended) for s in town.ended] == [("alice", "replaced")]
    assert town.sessions.user_of("jetson") == "bob"
    assert town.gone == []


def test_one_user_may_use_several_devices_and_leaves_all(town: Town) -> None:
    for device_id in ("kitchen", "hall"):
        run(town.sessions.login("alice", device_id, "app"))
    assert run(town.sessions.logout("alice", "http")) == 2
    assert sorted(owner for owner, m in town.sent if isinstance(m, Logout)) == ["hall", "kitchen"]


def test_logging_out_someone_unknown_ends_nothing(town: Town) -> None:
    assert run(town.sessions.logout("nobody", "http")) == 0
    assert town.gone == [("nobody", "http")]


def test_an_adopted_session_gets_a_deadline_of_its_own(town: Town) -> None:
    (grant,) = town.hello(session_id="s9", uid="alice", generation=4)
    assert isinstance(grant, Login)
    assert grant.session_id == "s9"
    town.live(T)
    assert town.gone == [("alice", "heartbeat_timeout")]
    assert [s.session_id for s in town.ended] == ["s9"]


def test_every_change_leaves_an_audit_line(town: Town) -> None:
    run(town.sessions.login("alice", "jetson", "app"))
    run(town.sessions.logout("alice", "http"))
    town.hello(ended=[{"session_id": town.ended[0].session_id, "reason": "done"}])
    assert [(line.event, line.reason) for line in town.store.audit] == [
        ("opened", "app"), ("ended", "http"), ("settled", "done"),
    ]  # fmt: skip


class SlowStore(MemoryStore):
    """Its commits wait until they may."""

    def __init__(self) -> None:
        super().__init__()
        self.may_commit = asyncio.Event()
        self.may_commit.set()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        async with super().transaction() as transaction:
            yield transaction
            await self.may_commit.wait()


async def test_who_connects_at_the_last_moment_while_others_are_served_is_not_logged_out() -> None:
    town = Town()
    store = town.store = SlowStore()
    town.sessions = Sessions(
        store,
        BridgeSettings(heartbeat_timeout_s=10),
        town.clock,
        send=lambda *_: True,
        on_ended=town.ended.append,
        on_gone=lambda uid, reason: town.gone.append((uid, reason)),
    )
    await town.sessions.connected("alice")
    for _ in range(10):
        await town.sessions.tick()
        town.clock.advance(0.99)
    await town.sessions.tick()
    town.clock.advance(0.2)  # she is due; service time was written a moment ago
    store.may_commit.clear()
    other = asyncio.create_task(town.sessions.login("bob", "jetson", "app"))
    await asyncio.sleep(0)
    back = asyncio.create_task(town.sessions.connected("alice"))
    await asyncio.sleep(0)
    tick = asyncio.create_task(town.sessions.tick())
    await asyncio.sleep(0)
    store.may_commit.set()
    await asyncio.gather(other, back, tick)
    assert town.gone == []
    assert town.sessions.alive("alice")


def test_a_fault_after_the_commit_brings_nobody_back_to_life(town: Town) -> None:
    def fail(_uid: str, _reason: LogoutReason) -> None:
        raise RuntimeError("a socket")

    run(town.sessions.connected("alice"))
    town.sessions._on_gone = fail
    with pytest.raises(RuntimeError):
        run(town.sessions.logout("alice", "app"))
    assert not town.sessions.alive("alice")
    assert run(town.sessions.heartbeat("alice")) is None


# --- devices that an operator added or took out ---


def test_where_credentials_are_required_nobody_logs_in_on_a_device_that_was_not_added() -> None:
    town = Town()
    town.sessions._desks.strict = True
    with pytest.raises(NoSuchDeviceError, match="sarvis device add"):
        run(town.sessions.login("alice", "jetson", "app"))
    assert not town.store.tables.devices
    town.store.tables.devices["jetson"] = Device("jetson", state="added")
    assert run(town.sessions.login("alice", "jetson", "app")).uid == "alice"


def test_a_removed_device_is_logged_out_and_nobody_logs_in_there_again() -> None:
    town = Town()
    session = run(town.sessions.login("alice", "jetson", "app"))
    town.take()
    assert run(town.sessions.remove("jetson", give_up=False)) == 1
    assert [type(message) for message in town.take()] == [Logout]
    assert [ended.session_id for ended in town.ended] == [session.session_id]
    with pytest.raises(NoSuchDeviceError):
        run(town.sessions.login("alice", "jetson", "app"))
    assert run(town.sessions.remove("jetson", give_up=True)) == 0
    assert town.sessions.waiting == 0
    with pytest.raises(NoSuchDeviceError):
        run(town.sessions.remove("never-seen", give_up=False))


def test_users_who_take_turns_on_a_device_that_is_away_fill_no_disk() -> None:
    town = Town()
    for number in range(2 * MAX_WAITING):
        assert run(town.sessions.login(f"user-{number % 2}", "jetson", "app")).uid == f"user-{number % 2}"
    assert town.sessions.waiting == len(town.store.tables.pending) == MAX_WAITING
    ended = [EndedSession(session_id=row.session_id, reason="done") for row in town.store.tables.pending.values()]
    town.hello(ended=[entry.model_dump() for entry in ended[-8:]])
    assert town.sessions.waiting == MAX_WAITING - 8


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """What the log is warned of."""
    told: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(sessions.log, "warning", lambda event, **more: told.append((event, more)))
    return told


def test_a_device_that_does_not_go_beyond_is_named_once_and_nobody_is_told_of_a_log_in_there(
    warnings: list[tuple[str, dict[str, Any]]],
) -> None:
    town = Town()
    town.hello(boot=200)
    for _ in range(4):
        (told,) = town.hello(boot=3, claim_uid="alice")
        assert isinstance(told, Login)
        assert (told.boot, told.re, told.session_id) == (200, "i", None)
        town.live(2)
    with pytest.raises(DeviceBehindError, match="jetson runs with an older copy of its state"):
        run(town.sessions.login("alice", "jetson", "app"))
    ((event, more),) = warnings
    assert (event, more["device_id"], more["boot"], more["known_boot"]) == ("device_behind", "jetson", 3, 200)
    town.hello(boot=201)
    assert run(town.sessions.login("alice", "jetson", "app")).uid == "alice"


def test_a_device_that_has_gone_beyond_is_named_once(warnings: list[tuple[str, dict[str, Any]]]) -> None:
    town = Town()
    for boot in (200, 3, 201, 201):
        town.hello(boot=boot)
    assert [(event, more["device_id"]) for event, more in warnings] == [("device_state_went_back", "jetson")]


def test_a_late_report_says_nothing_of_where_its_device_is() -> None:
    town = Town()
    town.hello(boot=2)
    town.hello(boot=1)
    town.sessions.device_status("jetson", DeviceStatus(state="offline", boot=2))
    run(town.sessions.login("alice", "jetson", "app"))
    run(town.sessions.logout("alice", "app"))
    town.live(11)
    town.take()
    town.live(70)
    assert town.take() == [], "nothing is repeated for a device whose last will came"


@pytest.mark.parametrize("reason", ["app", "http", "operator"])
def test_whoever_logs_out_is_subscribed_to_no_push_any_more(town: Town, reason: LogoutReason) -> None:
    alice, bob = (PushSubscription(uid, f"https://push.example/{uid}", "p", "a") for uid in ("alice", "bob"))
    town.store.tables.subscriptions = [alice, bob]
    run(town.sessions.connected("alice"))
    run(town.sessions.logout("alice", reason))
    assert town.store.tables.subscriptions == [bob]
    run(town.sessions.logout("nobody", reason))
    assert town.store.tables.subscriptions == [bob]


def test_silence_is_what_a_sleeping_phone_does_and_unsubscribes_nobody(town: Town) -> None:
    alice = PushSubscription("alice", "https://push.example/alice", "p", "a")
    town.store.tables.subscriptions = [alice]
    run(town.sessions.connected("alice"))
    town.live(T + 1)
    assert town.gone == [("alice", "heartbeat_timeout")]
    assert town.store.tables.subscriptions == [alice]
