import asyncio
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contract.messages import BridgeStatus, DeviceStatus, Hello, Logout, Message, Outcome, Wake
from contract.topics import BRIDGE_STATUS, LOGOUT, OUTCOME, Topic
from edge_node.display.events import ConsoleIndicator, Events
from edge_node.session.state_file import StateFile
from edge_node.uplink.mqtt import EdgeNode
from edge_node.wakeword.gate import Trigger
from edge_node.wakeword.near import NearMisses
from infra.mqtt.session import Incoming
from infra.settings.edge import EdgeSettings
from infra.settings.loader import Settings
from tests.support.clock import ManualClock
from tests.unit.edge_node.session.test_rules import grant

DEVICE = "jetson"


class Acks:
    """Writes down what is acknowledged."""

    def __init__(self, acked: list[str], kind: str) -> None:
        self._acked = acked
        self._kind = kind

    def ack(self, _mid: int, _qos: int) -> None:
        self._acked.append(self._kind)


class House:
    """A node without a broker: what it sends and shows."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.out = io.StringIO()
        self.sent: list[Message] = []
        self.qos: list[int] = []
        self.acked: list[str] = []
        self.lost = False
        """The network takes nothing."""
        self.clock = ManualClock()
        self.file = StateFile(folder, DEVICE)
        events = Events(self.out, as_json=True)
        self.node = EdgeNode.open(
            Settings(edge=EdgeSettings(uid="alice")),
            DEVICE,
            "model",
            clock=self.clock,
            state_file=self.file,
            events=events,
            indicator=ConsoleIndicator(events),
        )
        monkeypatch.setattr(self.node._mqtt, "send", self._send)
        self.node._mqtt.connected = True
        self.node._connected()

    def _send(self, topic: Topic, _owner: str, message: Message, *, qos: int | None = None) -> bool:
        if not self.lost:
            self.sent.append(message)
            self.qos.append(topic.qos if qos is None else qos)
        return not self.lost

    def hears(self, topic: Topic, message: Message, owner: str = DEVICE) -> None:
        self.node._received(Incoming(topic, owner, message, False, Acks(self.acked, topic.kind), 1, topic.qos))

    def log_in(self) -> None:
        hello = next(message for message in reversed(self.sent) if hasattr(message, "nonce"))
        decision = self.node._session.login(grant(hello.nonce), 1000.0)
        assert self.node._carry_out(decision)

    def holds_a_session(self) -> bool:
        return self.node._session.state.held is not None

    def lights(self) -> list[str]:
        return [event["state"] for event in self.events("led")]

    def events(self, name: str) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = [json.loads(line) for line in self.out.getvalue().splitlines()]
        return [event for event in events if event["event"] == name]


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    it = House(tmp_path, monkeypatch)
    it.log_in()
    yield it
    it.file.close()


def test_an_outcome_that_comes_after_the_log_out_lights_no_lamp(house: House) -> None:
    house.node.heard(Trigger(at_s=4.0, score=0.99), 1000.0)
    wake_id = house.sent[-1].id  # type: ignore[attr-defined]
    house.hears(LOGOUT, Logout(uid="alice", session_id="s1"))
    house.hears(OUTCOME, Outcome(id=wake_id, status="acked"))
    assert house.lights()[-1] == "standby"
    house.file.close()


def test_a_wake_is_repeated_with_qos_0_and_its_true_age(house: House) -> None:
    said_at = house.clock.monotonic()
    house.node.heard(Trigger(at_s=4.0, score=0.99), said_at)
    for _ in range(2):
        house.clock.advance(2.0)
        house.node._do_what_is_due()
    told = [(one, qos) for one, qos in zip(house.sent, house.qos, strict=True) if isinstance(one, Wake)]
    assert len({one.id for one, _ in told}) == 1
    assert [(one.age_ms, qos) for one, qos in told] == [(0, 1), (2000, 0), (4000, 0)]
    house.file.close()


def test_a_wake_that_was_never_sent_is_sent_with_qos_1(house: House) -> None:
    house.lost = True
    house.node.heard(Trigger(at_s=4.0, score=0.99), house.clock.monotonic())
    house.clock.advance(3.0)
    house.lost = False
    house.node._do_what_is_due()
    assert [qos for one, qos in zip(house.sent, house.qos, strict=True) if isinstance(one, Wake)] == [1]
    house.file.close()


def test_a_better_outcome_of_another_bridge_is_shown_and_a_worse_one_is_not(house: House) -> None:
    house.node.heard(Trigger(at_s=4.0, score=0.99), house.clock.monotonic())
    wake_id = house.sent[-1].id  # type: ignore[attr-defined]
    for status in ("user_not_connected", "sent", "user_not_connected", "acked", "sent"):
        house.hears(OUTCOME, Outcome.model_validate({"id": wake_id, "status": status}))
    assert [event["status"] for event in house.events("outcome")] == ["user_not_connected", "sent", "acked"]
    assert house.lights()[-3:] == ["nobody_there", "wake_sent", "app_answered"]
    house.file.close()


def test_a_bridge_that_joins_others_makes_no_device_say_hello(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    born: list[float] = []
    monkeypatch.setattr(house.node._session, "bridge_born", born.append)

    def hears_of(instance: str, started_at: str, era: str | None) -> int:
        house.hears(BRIDGE_STATUS, BridgeStatus(state="online", started_at=started_at, era=era), owner=instance)
        return len(born)

    assert [hears_of(*one) for one in [("a", "1", "e1"), ("b", "2", "e1"), ("a", "3", "e1")]] == [1, 1, 1]
    assert [hears_of(*one) for one in [("b", "4", "e2"), ("a", "5", "e2")]] == [2, 2]
    assert [hears_of(*one) for one in [("c", "6", None), ("c", "6", None), ("c", "7", None)]] == [3, 3, 4]
    house.file.close()


def test_a_log_out_that_cannot_be_stored_switches_off_and_acknowledges_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_state: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(house.file, "save", full)
        house.hears(LOGOUT, Logout(uid="alice", session_id="s1"))
    assert (house.lights()[-1], house.acked) == ("standby", [])
    assert house.holds_a_session()
    house.hears(LOGOUT, Logout(uid="alice", session_id="s1"))
    assert house.acked == ["logout"]
    assert not house.holds_a_session()
    house.file.close()


def test_a_log_out_whose_ack_was_lost_is_told_at_each_hello(house: House) -> None:
    house.lost = True
    house.hears(LOGOUT, Logout(uid="alice", session_id="s1"))
    assert house.acked == ["logout"]
    house.lost = False
    for _ in range(2):
        house.node._disconnected()
        house.node._connected()
        hello = next(message for message in reversed(house.sent) if isinstance(message, Hello))
        assert [(entry.session_id, entry.reason) for entry in hello.ended] == [("s1", "done")]
    house.file.close()


async def test_a_fault_of_ours_in_the_connection_ends_the_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(tmp_path, monkeypatch)

    async def fail() -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(house.node._mqtt, "run", fail)
    with pytest.raises(RuntimeError, match="a fault of ours"):
        await asyncio.wait_for(house.node.run(), 5)
    house.file.close()


def test_a_lost_microphone_shows_on_the_lamp_and_in_the_status_until_it_is_back(house: House) -> None:
    house.node.alarm("microphone_lost", True)
    house.node.alarm("microphone_lost", True)
    house.node.alarm("digital_silence", True)
    assert house.lights()[-1] == "microphone_lost"
    house.node.alarm("microphone_lost", False)
    house.node.alarm("digital_silence", False)
    assert house.lights()[-2:] == ["microphone_lost", "active"]
    told = [message.alarms for message in house.sent if isinstance(message, DeviceStatus)]
    assert told[-4:] == [("microphone_lost",), ("digital_silence", "microphone_lost"), ("digital_silence",), ()]
    house.file.close()


def test_the_last_will_says_why_the_node_was_deaf(house: House) -> None:
    house.node.alarm("microphone_lost", True)
    message = house.node._status("offline").message
    assert isinstance(message, DeviceStatus)
    assert (message.state, message.alarms) == ("offline", ("microphone_lost",))
    house.file.close()


def test_a_muted_node_hears_nothing_and_says_so(house: House) -> None:
    house.node.mute(True)
    house.node.mute(True)
    house.node.heard(Trigger(at_s=4.0, score=0.99), 1000.0)
    assert house.lights()[-1] == "muted"
    assert not any(isinstance(message, Wake) for message in house.sent)
    house.node.mute(False)
    assert house.lights()[-1] == "active"
    told = [message.muted for message in house.sent if isinstance(message, DeviceStatus)]
    assert told[-2:] == [True, False]
    house.node.heard(Trigger(at_s=8.0, score=0.99), 1000.0)
    assert any(isinstance(message, Wake) for message in house.sent)
    house.file.close()


def test_near_misses_go_into_the_status_at_most_once_a_minute(house: House) -> None:
    def told() -> list[tuple[int | None, float | None, float | None]]:
        statuses = [message for message in house.sent if isinstance(message, DeviceStatus)]
        return [(status.near, status.best, status.threshold) for status in statuses]

    before = len(told())
    assert told()[-1] == (None, None, None)
    for count in (0, 1, 2):
        house.node.near(NearMisses(count, 0.41234, 0.5))
    assert told()[before:] == [(1, 0.4123, 0.5)]
    house.clock.advance(60)
    for _ in range(2):
        house.node.near(NearMisses(3, 0.3, 0.5))
    assert told()[before + 1 :] == [(3, 0.3, 0.5)]
