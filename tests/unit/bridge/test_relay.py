import json
from typing import Any, cast

from bridge.app_protocol import Mode
from bridge.connection import AppConnection
from bridge.hub import Hub
from bridge.relay import REMEMBERED_WAKES, Relay
from contract.messages import LEGACY_DEVICE, Message, Outcome, Wake
from contract.topics import OUTCOME, WAKE, Topic
from tests.support.clock import ManualClock


class Phone:
    """The side of a connection that the relay sees."""

    def __init__(self, mode: Mode = "v2", *, takes: bool = True) -> None:
        self.mode = mode
        self.takes = takes
        self.frames: list[dict[str, Any]] = []

    def send(self, frame: str) -> bool:
        if self.takes:
            self.frames.append(json.loads(frame))
        return self.takes


class House:
    def __init__(self, **users: str) -> None:
        self.hub: Hub[AppConnection] = Hub(8)
        self.sent: list[tuple[Topic, str, Message]] = []
        self.users = users
        self.clock = ManualClock()
        self.relay = Relay(self.hub, self.clock, send=self._send, user_of=self.users.get)

    def _send(self, topic: Topic, owner: str, message: Message) -> bool:
        self.sent.append((topic, owner, message))
        return True

    def phone(self, uid: str, mode: Mode = "v2", *, takes: bool = True) -> Phone:
        phone = Phone(mode, takes=takes)
        self.hub.join(uid, cast("AppConnection", phone))
        return phone

    def outcomes(self) -> list[tuple[str, str]]:
        return [(owner, m.status) for topic, owner, m in self.sent if topic is OUTCOME and isinstance(m, Outcome)]


def wake(wake_id: str = "w1", uid: str = "alice", **changes: int) -> Wake:
    return Wake(id=wake_id, uid=uid, command="싸비스", timestamp="t", **changes)


def test_a_wake_reaches_every_socket_of_its_user_and_no_other() -> None:
    house = House()
    mine, old, other = house.phone("alice"), house.phone("alice", "legacy"), house.phone("bob")
    house.relay.wake("jetson", wake())
    assert [frame["command"] for frame in mine.frames + old.frames] == ["싸비스", "싸비스"]
    assert set(old.frames[0]) == {"type", "command", "timestamp"}
    assert other.frames == []
    assert house.outcomes() == [("jetson", "sent")]


def test_a_wake_for_nobody_says_so() -> None:
    house = House()
    house.relay.wake("jetson", wake())
    assert house.outcomes() == [("jetson", "user_not_connected")]


def test_sockets_that_take_nothing_do_not_count() -> None:
    house = House()
    house.phone("alice", takes=False)
    house.relay.wake("jetson", wake())
    assert house.outcomes() == [("jetson", "user_not_connected")]


def test_a_stale_wake_rings_nobody() -> None:
    house = House()
    phone = house.phone("alice")
    house.relay.wake("jetson", wake(age_ms=10_000))
    assert (phone.frames, house.outcomes()) == ([], [("jetson", "expired")])


def test_the_same_wake_again_rings_nobody_and_hears_its_fate_again() -> None:
    house = House()
    phone = house.phone("alice")
    house.relay.wake("jetson", wake())
    house.relay.wake("jetson", wake(age_ms=2000))
    assert len(phone.frames) == 1
    assert house.outcomes() == [("jetson", "sent")] * 2


def test_a_device_speaks_for_nobody_but_its_own_user() -> None:
    house = House(jetson="bob")
    phone = house.phone("alice")
    house.relay.wake("jetson", wake())
    assert (phone.frames, house.outcomes()) == ([], [("jetson", "rejected")])


def test_the_first_ack_of_the_right_user_counts() -> None:
    house = House()
    house.phone("alice")
    house.relay.wake("jetson", wake())
    for uid, wake_id in (("bob", "w1"), ("alice", "other"), ("alice", "w1"), ("alice", "w1")):
        house.relay.acked(uid, wake_id)
    assert house.outcomes() == [("jetson", "sent"), ("jetson", "acked")]


def test_the_http_trigger_is_mirrored_for_operators_and_its_mirror_ignored() -> None:
    house = House()
    phone = house.phone("alice", "legacy")
    assert house.relay.trigger(wake())
    (mirrored,) = [(owner, m) for topic, owner, m in house.sent if topic is WAKE]
    assert mirrored == (LEGACY_DEVICE, wake())
    house.relay.wake(LEGACY_DEVICE, wake("w2"))
    assert len(phone.frames) == 1
    assert not house.relay.trigger(wake("w3", uid="nobody"))


def test_what_is_remembered_is_bounded() -> None:
    house = House()
    for number in range(REMEMBERED_WAKES + 10):
        house.relay.wake("jetson", wake(str(number)))
    assert len(house.relay._fates) == REMEMBERED_WAKES


def test_another_devices_wake_id_gets_no_answer_meant_for_the_first() -> None:
    house = House()
    phone = house.phone("alice")
    house.relay.wake("jetson", wake())
    house.relay.wake("other", wake())
    assert len(phone.frames) == 1
    assert house.outcomes() == [("jetson", "sent")]


def test_a_session_on_the_mirrors_name_silences_no_trigger() -> None:
    house = House(**{LEGACY_DEVICE: "mallory"})
    house.phone("alice")
    assert house.relay.trigger(wake())
