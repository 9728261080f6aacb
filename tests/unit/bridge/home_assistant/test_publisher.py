import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from bridge.home_assistant.publisher import AT_ONCE, HomeAssistant
from bridge.wakes.delivery import FATES, Event, First, WatchedDeliveries, received
from bridge.wakes.missed import MissedWakes
from contract.messages import DeviceEvent, DeviceStatus, Wake
from contract.topics import Topic
from infra.mqtt.session import MqttSession
from infra.settings.bridge import HomeAssistantSettings
from infra.settings.broker import MqttSettings
from tests.support.clock import ManualClock


class Broker:
    """The session, as far as the publisher uses it."""

    def __init__(self) -> None:
        self.settings = MqttSettings()
        self.reached = True
        self.configs: list[tuple[str, bytes]] = []
        self.events: list[tuple[str, DeviceEvent]] = []

    def send_to(self, name: str, payload: bytes, qos: int, *, retained: bool) -> bool:
        assert (qos, retained) == (1, True)
        if self.reached:
            self.configs.append((name.split("/")[2], payload))
        return self.reached

    def send(self, topic: Topic, owner: str, message: DeviceEvent) -> bool:
        assert topic.kind == "event"
        self.events.append((owner, message))
        return True

    @property
    def devices(self) -> list[str]:
        return [name.removeprefix("sarvis_v1_") for name, payload in self.configs if payload]


class Case:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.broker = Broker()
        self.it = HomeAssistant(HomeAssistantSettings(), cast("MqttSession", self.broker), self.clock, "0.2.0")

    def status(self, device_id: str, version: str = "1") -> None:
        self.it.status(device_id, DeviceStatus(state="online", version=version))

    async def passes(self, seconds: float = 0.2) -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        self.clock.advance(seconds)
        for _ in range(5):
            await asyncio.sleep(0)


@asynccontextmanager
async def running() -> AsyncIterator[Case]:
    case = Case()
    task = asyncio.create_task(case.it.run())
    try:
        yield case
    finally:
        task.cancel()


async def test_a_device_is_told_once_and_again_with_its_next_version() -> None:
    async with running() as case:
        for _ in range(3):
            case.status("a")
            await case.passes()
        assert case.broker.devices == ["a"]
        case.status("a", "2")
        await case.passes()
        assert case.broker.devices == ["a", "a"]
        assert json.loads(case.broker.configs[-1][1])["dev"]["sw"] == "2"


async def test_a_new_connection_tells_all_whose_status_comes_again() -> None:
    async with running() as case:
        case.status("a")
        await case.passes()
        case.it.connected()
        case.status("a")
        await case.passes()
        assert case.broker.devices == ["a", "a"]


async def test_what_a_broker_does_not_take_is_told_later() -> None:
    async with running() as case:
        case.broker.reached = False
        case.status("a")
        await case.passes()
        assert case.broker.configs == []
        case.broker.reached = True
        await case.passes()
        assert case.broker.devices == ["a"]


async def test_a_large_fleet_is_told_in_portions() -> None:
    async with running() as case:
        names = [f"d{number}" for number in range(2 * AT_ONCE + 1)]
        for name in names:
            case.status(name)
        await case.passes(0.0)
        assert case.broker.devices == names[:AT_ONCE]
        await case.passes()
        await case.passes()
        assert case.broker.devices == names


async def test_a_removed_device_vanishes_also_one_that_was_not_told_yet() -> None:
    async with running() as case:
        case.status("a")
        await case.passes()
        assert case.it.removed("a")
        case.status("b")
        assert case.it.removed("b")
        await case.passes()
        assert case.broker.configs[1:] == [("sarvis_v1_a", b""), ("sarvis_v1_b", b"")]
        case.status("a")
        await case.passes()
        assert case.broker.devices == ["a", "a"], "it was added again"
        case.broker.reached = False
        assert not case.it.removed("a")


def events(first: First, *later: Event, device_id: str = "jetson") -> list[dict[str, Any]]:
    """What is told of a wake to which this happens, half a second apart."""
    case = Case()
    deliveries = WatchedDeliveries(MissedWakes(), watch=case.it.watch)
    wake = Wake(uid="alice", command="c", timestamp="t", id="w", score=0.75)
    delivery = received(wake, device_id, case.clock.monotonic(), "")
    case.clock.advance(0.5)
    deliveries.add(delivery, first, case.clock.monotonic())
    for event in later:
        case.clock.advance(0.5)
        deliveries._move(delivery, event, case.clock.monotonic())
    assert {owner for owner, _ in case.broker.events} <= {device_id}
    return [json.loads(message.encode()) for _, message in case.broker.events]


@pytest.mark.parametrize(
    ("happens", "kinds"),
    [
        (("reached", "acked"), ["heard", "acked"]),
        (("reached_legacy", "over"), ["heard", "delivered"]),
        (("unreached", "reached", "acked"), ["heard", "acked"]),
        (("unreached", "push_accepted", "over"), ["heard", "pushed"]),
        (("unreached", "over"), ["heard", "missed"]),
        (("unreached", "over", "push_accepted"), ["heard", "missed"]),
        (("reached", "logged_out"), ["heard", "stopped"]),
        (("reached", "logged_out", "acked"), ["heard", "stopped"]),
        (("reached", "crowded_out"), ["heard", "forgotten"]),
        (("unreached", "elsewhere", "over"), ["heard"]),
        (("unreached", "acked_elsewhere"), ["heard"]),
        (("stale",), ["expired"]),
        (("refused",), ["rejected"]),
    ],
)
def test_a_wake_is_heard_and_has_one_fate(happens: tuple[Any, ...], kinds: list[str]) -> None:
    told = events(*happens)
    assert [event["event_type"] for event in told] == kinds
    for number, event in enumerate(told):
        assert (event["id"], event["uid"], event["score"]) == ("w", "alice", 0.75)
        assert event["ms"] == 500.0 * (1 + number * (len(happens) - 1)) or len(happens) > 2


def test_every_fate_but_that_of_another_bridge_can_be_told() -> None:
    kinds = DeviceEvent.model_json_schema()["properties"]["event_type"]["enum"]
    assert set(kinds) == {"heard", *FATES} - {"elsewhere"}


def test_a_trigger_over_http_is_no_devices() -> None:
    assert events("reached", "acked", device_id="legacy-http") == []
