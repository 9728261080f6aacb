import asyncio

import pytest

from bridge import service
from bridge.rows import PendingLogout
from bridge.service import Bridge
from contract.messages import BridgeStatus, DeviceStatus, Logout, Message
from contract.sections.bridge import LimitsSettings
from contract.sections.broker import MqttSettings
from contract.settings import Settings
from contract.topics import WAKE, Topic
from tests.support.clock import ManualClock
from tests.support.memory_store import MemoryStore
from tests.support.ports import free_port
from tests.support.waiting import wait_until


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
    monkeypatch.setattr(bridge.sessions._announce, "_send", send)
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


async def test_a_bridge_that_runs_for_long_forgets_what_is_long_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.service.PRUNE_EVERY_S", 0.01)
    store = MemoryStore()
    settings = Settings(mqtt=MqttSettings(url=f"mqtt://127.0.0.1:{free_port()}"))
    async with Bridge(settings, store).running():
        await wait_until("it was pruned again and again", lambda: store.prunes >= 3)


async def test_apps_that_are_connecting_when_the_bridge_stops_are_told_so() -> None:
    bridge = Bridge(Settings(mqtt=MqttSettings(url=f"mqtt://127.0.0.1:{free_port()}")), MemoryStore())
    answers: list[object] = []
    async with bridge.running():
        await bridge.sessions._one.acquire()
        bridge.sessions.connect_soon("alice", answers.append)
        await asyncio.sleep(0)
    assert [str(answer) for answer in answers] == ["the bridge stops"]


def test_what_a_device_says_beyond_its_limit_is_dropped_counted_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(service.log, "warning", lambda event, device_id, **_: told.append(f"{event} {device_id}"))
    clock = ManualClock()
    bridge = Bridge(Settings(limits=LimitsSettings(device="2/second")), MemoryStore(), clock)
    assert [bridge._admit(WAKE, "loud") for _ in range(4)] == [True, True, False, False]
    assert bridge._admit(WAKE, "quiet")
    assert told == ["device_floods loud"]
    clock.advance(1)
    assert bridge._admit(WAKE, "loud")
