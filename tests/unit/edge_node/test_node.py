import asyncio
import io
import json
from pathlib import Path
from typing import Any

import pytest

from contract.messages import DeviceStatus, Hello, Logout, Message, Outcome, Wake
from contract.mqtt import Incoming
from contract.sections.edge import EdgeSettings
from contract.settings import Settings
from contract.topics import LOGOUT, OUTCOME, Topic
from edge_node.events import ConsoleIndicator, Events
from edge_node.gate import Trigger
from edge_node.node import EdgeNode
from edge_node.state import StateFile
from tests.support.clock import ManualClock
from tests.unit.edge_node.test_session import grant

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
        self.acked: list[str] = []
        self.lost = False
        """The network takes nothing."""
        self.file = StateFile(folder, DEVICE)
        events = Events(self.out, as_json=True)
        self.node = EdgeNode(
            Settings(edge=EdgeSettings(uid="alice")),
            DEVICE,
            "model",
            clock=ManualClock(),
            state_file=self.file,
            events=events,
            indicator=ConsoleIndicator(events),
        )
        monkeypatch.setattr(self.node._mqtt, "send", self._send)
        self.node._mqtt.connected = True
        self.node._connected()

    def _send(self, _topic: Topic, _owner: str, message: Message) -> bool:
        if not self.lost:
            self.sent.append(message)
        return not self.lost

    def hears(self, topic: Topic, message: Message) -> None:
        self.node._received(Incoming(topic, DEVICE, message, False, Acks(self.acked, topic.kind), 1, topic.qos))

    def log_in(self) -> None:
        hello = next(message for message in reversed(self.sent) if hasattr(message, "nonce"))
        decision = self.node._session.login(grant(hello.nonce), 1000.0)
        assert self.node._carry_out(decision)

    def holds_a_session(self) -> bool:
        return self.node._session.state.held is not None

    def lights(self) -> list[str]:
        events: list[dict[str, Any]] = [json.loads(line) for line in self.out.getvalue().splitlines()]
        return [event["state"] for event in events if event["event"] == "led"]


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    it = House(tmp_path, monkeypatch)
    it.log_in()
    return it


def test_an_outcome_that_comes_after_the_log_out_lights_no_lamp(house: House) -> None:
    house.node.heard(Trigger(at_s=4.0, score=0.99), 1000.0)
    wake_id = house.sent[-1].id  # type: ignore[attr-defined]
    house.hears(LOGOUT, Logout(uid="alice", session_id="s1"))
    house.hears(OUTCOME, Outcome(id=wake_id, status="acked"))
    assert house.lights()[-1] == "standby"
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
