import asyncio
from contextlib import AsyncExitStack
from typing import cast

import pytest
from paho.mqtt import client as paho

from bridge import service
from bridge.service import Bridge
from bridge.storage.memory import MemoryStore
from bridge.storage.records import Change, Missed, MissedTold, PendingLogout
from bridge.storage.store import StoreError
from contract.messages import LEGACY_DEVICE, BridgeStatus, DeviceStatus, Logout, Message
from contract.topics import HELLO, WAKE, Topic
from infra.settings.bridge import BridgeSettings, LimitsSettings
from infra.settings.broker import MqttSettings
from infra.settings.loader import Settings
from tests.support.clock import ManualClock
from tests.support.ports import free_port


async def test_log_outs_that_wait_go_out_soon_after_the_broker_is_reached_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, clock = MemoryStore(), ManualClock()
    store.tables.pending["jetson", "s1"] = PendingLogout("c1", "s1", "jetson", "alice", 1, "app", "then")
    bridge = Bridge(Settings(), store, clock)
    said: list[Message] = []

    def send(_topic: Topic, _owner: str, message: Message) -> bool:
        said.append(message)
        return True

    monkeypatch.setattr(bridge.mqtt, "send", send)
    monkeypatch.setattr(bridge.devices, "send", send)
    await bridge.sessions.load()
    bridge.sessions.device_status("jetson", DeviceStatus(state="online", boot=1))
    for _ in range(300):
        clock.advance(1)
        await bridge.sessions.tick()
    said.clear()
    bridge._connected()
    clock.advance(2)
    await bridge.sessions.tick()
    assert [type(message) for message in said] == [BridgeStatus, Logout]


def _without_a_broker() -> Settings:
    bridge = BridgeSettings(heartbeat_timeout_s=60)
    return Settings(bridge=bridge, mqtt=MqttSettings(url=f"mqtt://127.0.0.1:{free_port()}"))


LOOPS = 4
"""Of a running bridge that sleep: the clock's tick, the watch over keys, pruning, and the next try at a broker."""


async def test_a_bridge_that_runs_for_long_forgets_what_is_long_over() -> None:
    store, clock = MemoryStore(), ManualClock()
    async with Bridge(_without_a_broker(), store, clock).running():
        for hour in range(1, 4):
            await clock.run(0, sleepers=LOOPS)
            assert store.prunes == hour
            clock.advance(3600)


async def test_a_running_bridge_logs_out_who_is_silent_for_the_whole_time_out() -> None:
    clock = ManualClock()
    bridge = Bridge(_without_a_broker(), MemoryStore(), clock)
    async with bridge.running():
        await bridge.sessions.login("alice", "jetson", "app")
        await clock.run(59, sleepers=LOOPS, step_s=1)
        assert bridge.sessions.alive("alice")
        await clock.run(2, sleepers=LOOPS, step_s=1)
        assert not bridge.sessions.alive("alice")
        assert bridge.sessions.user_of("jetson") is None


async def test_apps_that_are_connecting_when_the_bridge_stops_are_told_so() -> None:
    bridge = Bridge(_without_a_broker(), MemoryStore())
    answers: list[object] = []
    async with AsyncExitStack() as turn, bridge.running():
        await turn.enter_async_context(bridge.sessions._ledger.exclusive())
        bridge.sessions.connect_soon("alice", answers.append)
        await asyncio.sleep(0)
    assert [str(answer) for answer in answers] == ["the bridge stops"]


def test_what_a_device_says_beyond_its_limit_is_dropped_counted_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(service.log, "warning", lambda event, device_id, **_: told.append(f"{event} {device_id}"))
    clock = ManualClock()
    bridge = Bridge(Settings(limits=LimitsSettings(device="2/second")), MemoryStore(), clock)
    assert [bridge._admit(HELLO, "loud") for _ in range(4)] == [True, True, False, False]
    assert bridge._admit(HELLO, "quiet")
    assert told == ["device_floods loud"]
    clock.advance(1)
    assert bridge._admit(HELLO, "loud")


class Acks:
    """The connection on which wakes came: the packet ids that were confirmed."""

    def __init__(self) -> None:
        self.mids: list[int] = []

    def ack(self, mid: int, _qos: int) -> None:
        self.mids.append(mid)


def test_each_wake_is_confirmed_also_one_that_is_refused_and_one_that_fails_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rung: list[tuple[str, str]] = []
    bridge = Bridge(Settings(limits=LimitsSettings(device="3/second")), MemoryStore(), ManualClock())
    monkeypatch.setattr(bridge.relay, "wake", lambda device_id, wake: rung.append((device_id, wake.id)))
    acks = Acks()

    def comes(mid: int, payload: bytes, device_id: str = "jetson", *, retained: bool = False) -> None:
        name = WAKE.name(bridge.settings.mqtt.prefix, device_id).encode()
        bridge.mqtt._take(cast("paho.Client", acks), name, payload, 1, retained, mid)

    good = b'{"uid":"alice","command":"c","timestamp":"t","id":"w"}'
    comes(1, good)
    comes(2, b"{")
    comes(3, good, retained=True)
    comes(4, good)  # beyond its limit
    comes(5, good, LEGACY_DEVICE)
    assert (rung, acks.mids) == ([("jetson", "w")], [1, 2, 3, 4, 5])
    monkeypatch.setattr(bridge.relay, "wake", None)
    comes(6, good, "other")
    assert acks.mids == [1, 2, 3, 4, 5], "the broker sends it again"


def _tell_missed(bridge: Bridge, uid: str) -> None:
    """A user connects, and the ledger has a wake that the user missed."""
    bridge.relay.missed(uid, [Missed(f"w-{uid}", uid, "wake_up", "jetson", "now")])


async def test_what_changes_during_a_commit_is_stored_also_where_more_waits_than_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bridge.wakes.missed.MAX_UNSAVED", 2)
    saved: list[Change] = []
    store = MemoryStore()
    bridge = Bridge(Settings(), store, ManualClock())

    async def tick(unsaved: list[Change]) -> None:
        _tell_missed(bridge, "carol")  # somebody connects meanwhile
        saved.extend(unsaved)
        unsaved.clear()

    monkeypatch.setattr(bridge.sessions, "tick", tick)
    _tell_missed(bridge, "alice")
    _tell_missed(bridge, "bob")
    await bridge._keep_time()
    await bridge._keep_time()
    assert saved == [MissedTold("w-alice"), MissedTold("w-bob"), MissedTold("w-carol")]


async def test_unsaved_wakes_are_stored_later_in_order_and_only_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    saved: list[Change] = []
    bridge = Bridge(Settings(), MemoryStore(), ManualClock())
    fails = iter(["before the commit", "after the commit", ""])

    async def tick(unsaved: list[Change]) -> None:
        when = next(fails)
        if when == "before the commit":
            _tell_missed(bridge, "bob")
            raise StoreError("the disk is full")
        saved.extend(unsaved)
        unsaved.clear()
        if when:
            _tell_missed(bridge, "carol")
            raise StoreError("the disk is full")

    monkeypatch.setattr(bridge.sessions, "tick", tick)
    _tell_missed(bridge, "alice")
    for _ in range(2):
        with pytest.raises(StoreError):
            await bridge._keep_time()
    await bridge._keep_time()
    assert saved == [MissedTold("w-alice"), MissedTold("w-bob"), MissedTold("w-carol")]


async def test_a_second_that_fails_after_its_commit_leaves_nothing_to_be_stored_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = MemoryStore()
    bridge = Bridge(Settings(), store, ManualClock())
    await bridge.sessions.load()
    unsaved: list[Change] = [Missed("w", "alice", "wake_up", "jetson", "now")]

    async def fail() -> bool:
        raise StoreError("the disk is full")

    monkeypatch.setattr(bridge.sessions, "_log_out_who_is_due", fail)
    with pytest.raises(StoreError):
        await bridge.sessions.tick(unsaved)
    assert unsaved == []
    assert [missed.id for missed in store.tables.missed] == ["w"]
