import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.apps.connection import AppConnection
from bridge.apps.hub import Hub
from bridge.wakes import delivery
from bridge.wakes.delivery import AGAIN_S, PUSH_AFTER_S, REMEMBERED_WAKES, RINGING, Deliveries, Delivery
from bridge.wakes.missed import MISSED_PER_USER, MissedWakes
from bridge.wakes.relay import Relay
from contract.app_socket import Mode
from contract.messages import LEGACY_DEVICE, Message, Outcome, Wake
from contract.topics import OUTCOME, WAKE, Topic
from tests.support.clock import ManualClock


class Phone:
    """The side of a connection that the relay sees."""

    def __init__(self, uid: str, mode: Mode = "v2", *, takes: bool = True) -> None:
        self.uid = uid
        self.mode = mode
        self.takes = takes
        self.has_room = True
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
        self.pushes: list[Delivery] = []
        self.relay = Relay(
            self.hub,
            self.clock,
            tell=lambda device_id, outcome: self._send(OUTCOME, device_id, Outcome.decode(outcome)),
            mirror=lambda wake: self._send(WAKE, LEGACY_DEVICE, Wake.decode(wake)),
            user_of=self.users.get,
            push=lambda delivery, _on_accepted: self.pushes.append(delivery),
        )

    def _send(self, topic: Topic, owner: str, message: Message) -> bool:
        self.sent.append((topic, owner, message))
        return True

    def phone(self, uid: str, mode: Mode = "v2", *, takes: bool = True) -> Phone:
        phone = Phone(uid, mode, takes=takes)
        self.hub.join(uid, cast("AppConnection", phone))
        return phone

    def connect(self, uid: str, mode: Mode = "v2") -> Phone:
        phone = self.phone(uid, mode)
        self.relay.connected(cast("AppConnection", phone))
        return phone

    def live(self, seconds: float) -> None:
        for _ in range(round(seconds * 2)):
            self.clock.advance(0.5)
            self.relay.tick()

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


def test_an_answered_wake_is_sent_to_the_users_other_apps_only() -> None:
    house = House()
    mine, other, old, stranger = (
        house.phone("alice"), house.phone("alice"), house.phone("alice", "legacy"), house.phone("bob"),
    )  # fmt: skip
    house.relay.wake("jetson", wake())
    before = [len(phone.frames) for phone in (mine, old, stranger)]
    for connection, wake_id in ((stranger, "w1"), (mine, "unknown"), (mine, "w1")):
        house.relay.seen(cast("AppConnection", connection), wake_id)
    assert [len(phone.frames) for phone in (mine, old, stranger)] == before
    assert [(frame["type"], frame["id"]) for frame in other.frames] == [("voice_command", "w1"), ("wake_seen", "w1")]


def test_a_repetition_ends_the_life_of_a_wake_that_the_broker_held() -> None:
    """The first came 8 s late and looked new; the device repeats it with its true age."""
    house = House()
    phone = house.phone("alice")
    house.relay.wake("jetson", wake())
    house.clock.advance(0.5)
    house.relay.wake("jetson", wake(age_ms=8_500))
    house.live(5.0)
    assert [frame["age_ms"] for frame in phone.frames] == [0]
    late = house.connect("alice")
    assert late.frames == []


def test_a_repetition_that_was_held_does_not_lengthen_a_wake() -> None:
    house = House()
    house.relay.wake("jetson", wake(age_ms=6000))
    house.clock.advance(3.0)
    house.relay.wake("jetson", wake(age_ms=0))
    house.clock.advance(1.5)
    assert house.connect("alice").frames == []


def test_apps_are_told_the_age_that_the_repetition_gave() -> None:
    house = House()
    house.relay.wake("jetson", wake())
    house.clock.advance(0.5)
    house.relay.wake("jetson", wake(age_ms=4_500))
    house.clock.advance(1.0)
    assert [frame["age_ms"] for frame in house.connect("alice").frames] == [5_500]


def test_a_wake_without_a_connected_user_is_reported() -> None:
    house = House()
    house.relay.wake("jetson", wake())
    assert house.outcomes() == [("jetson", "user_not_connected")]


def test_an_app_without_room_at_its_connection_gets_the_wake_later_and_can_confirm() -> None:
    house = House()
    house.relay.wake("jetson", wake())
    slow = house.phone("alice")
    slow.has_room = False
    house.relay.connected(cast("AppConnection", slow))
    assert slow.frames == []
    slow.has_room = True
    house.live(AGAIN_S + 0.5)
    assert [frame["id"] for frame in slow.frames] == ["w1"]
    assert house.outcomes() == [("jetson", "user_not_connected"), ("jetson", "sent")]
    house.relay.acked("alice", "w1")
    assert house.outcomes()[-1] == ("jetson", "acked")
    house.live(30)
    assert house.relay.missed("alice", []) == []


def test_sockets_that_take_nothing_do_not_count() -> None:
    house = House()
    house.phone("alice", takes=False)
    house.relay.wake("jetson", wake())
    assert house.outcomes() == [("jetson", "user_not_connected")]


def test_a_stale_wake_does_not_ring() -> None:
    house = House()
    phone = house.phone("alice")
    house.relay.wake("jetson", wake(age_ms=10_000))
    assert (phone.frames, house.outcomes()) == ([], [("jetson", "expired")])


def test_a_repeated_wake_does_not_ring_and_gets_its_outcome_again() -> None:
    house = House()
    phone = house.phone("alice")
    house.relay.wake("jetson", wake())
    house.relay.wake("jetson", wake(age_ms=2000))
    assert len(phone.frames) == 1
    assert house.outcomes() == [("jetson", "sent")] * 2


def test_a_device_acts_only_for_its_own_user() -> None:
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
    assert len(house.relay._deliveries._known) == REMEMBERED_WAKES
    assert sum(len(fates) for fates in house.relay._deliveries._living.values()) <= REMEMBERED_WAKES


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


def test_a_wake_rings_again_every_two_seconds_until_an_app_confirms() -> None:
    house = House()
    phone, old = house.phone("alice"), house.phone("alice", "legacy")
    house.relay.wake("jetson", wake())
    house.live(2 * AGAIN_S)
    assert (len(phone.frames), len(old.frames)) == (3, 1)
    assert {frame["id"] for frame in phone.frames} == {"w1"}
    house.relay.acked("alice", "w1")
    house.live(5)
    assert len(phone.frames) == 3


def test_a_repetition_never_makes_a_slow_app_too_slow() -> None:
    house = House()
    slow, quick = house.phone("alice"), house.phone("alice")
    house.relay.wake("jetson", wake())
    slow.has_room = False
    house.live(2)
    assert (len(slow.frames), len(quick.frames)) == (1, 2)


def test_a_wake_stops_ringing_when_its_life_is_over() -> None:
    house = House()
    phone = house.phone("alice")
    house.relay.wake("jetson", wake(age_ms=6000))
    house.live(20)
    assert len(phone.frames) == 2
    assert house.connect("alice").frames == []


def test_an_app_that_connects_within_its_life_hears_it_and_the_device_is_told() -> None:
    house = House()
    house.relay.wake("jetson", wake())
    house.live(3)
    late = house.connect("alice")
    assert [frame["id"] for frame in late.frames] == ["w1"]
    assert house.outcomes() == [("jetson", "user_not_connected"), ("jetson", "sent")]
    house.relay.acked("alice", "w1")
    assert house.outcomes()[-1] == ("jetson", "acked")
    assert house.connect("alice").frames == []


def test_an_old_app_that_connects_late_hears_nothing_as_documented() -> None:
    house = House()
    assert not house.relay.trigger(wake())
    assert house.connect("alice", "legacy").frames == []


def test_a_wake_that_no_app_accepted_is_missed_once() -> None:
    house = House()
    house.phone("alice")
    house.relay.wake("jetson", wake("unconfirmed"))
    house.relay.wake("jetson", wake("confirmed"))
    house.relay.acked("alice", "confirmed")
    house.relay.wake("jetson", wake("absent", uid="bob"))
    house.live(11)
    assert [missed.id for missed in house.relay.missed("alice", [])] == ["unconfirmed"]
    assert [missed.id for missed in house.relay.missed("bob", [])] == ["absent"]
    assert house.relay.missed("alice", []) == []


@pytest.mark.parametrize("late_s", [10.0, 10.2, 60.0])
def test_a_confirmation_after_the_end_of_a_wake_is_none(late_s: float) -> None:
    house = House()
    house.phone("alice")
    house.relay.wake("jetson", wake())
    house.clock.advance(late_s)  # no look at the clock has buried it yet
    house.relay.acked("alice", "w1")
    house.live(1)
    house.relay.acked("alice", "w1")
    assert house.outcomes() == [("jetson", "sent")]
    assert [missed.id for missed in house.relay.missed("alice", [])] == ["w1"]


def test_the_age_that_a_device_told_counts_for_the_end_of_a_wake() -> None:
    house = House()
    house.phone("alice")
    house.relay.wake("jetson", wake(age_ms=8000))
    house.clock.advance(1.9)
    house.relay.acked("alice", "w1")
    house.relay.wake("jetson", wake("w2", age_ms=8000))
    house.clock.advance(2.1)
    house.relay.acked("alice", "w2")
    assert house.outcomes() == [("jetson", "sent"), ("jetson", "acked"), ("jetson", "sent")]


def test_each_frame_of_a_wake_has_its_age_the_bridges_clock_and_its_receipt() -> None:
    house = House()
    phone = house.phone("alice")
    house.relay.wake("jetson", wake(age_ms=300))
    house.live(4.5)
    assert [frame["age_ms"] for frame in phone.frames] == [300, 2300, 4300]
    first = phone.frames[0]
    assert [frame["clock_ms"] - first["clock_ms"] for frame in phone.frames] == [0, 2000, 4000]
    assert {frame["received_at"] for frame in phone.frames} == {first["timestamp"]}
    assert phone.frames[-1]["timestamp"] > first["timestamp"]


def test_a_missed_wake_keeps_the_bridges_date_beside_what_its_device_said() -> None:
    house = House()
    house.relay.wake("jetson", Wake(uid="alice", command="c", timestamp="1970-01-01T00:00:07"))
    house.live(11)
    (missed,) = house.relay.missed("alice", [])
    assert missed.timestamp == "1970-01-01T00:00:07"
    assert missed.received_at is not None
    assert datetime.fromisoformat(missed.received_at).utcoffset() == timedelta(0)


def test_what_an_old_app_took_is_not_missed() -> None:
    house = House()
    house.phone("alice", "legacy")
    house.relay.wake("jetson", wake())
    house.live(11)
    assert house.relay.missed("alice", []) == []


def test_stale_and_rejected_wakes_are_not_missed() -> None:
    house = House(jetson="bob")
    house.relay.wake("jetson", wake("rejected"))
    house.relay.wake("other", wake("stale", age_ms=10_000))
    house.live(11)
    assert house.relay.missed("alice", []) == []


def test_only_the_newest_missed_wakes_are_kept() -> None:
    house = House()
    for number in range(MISSED_PER_USER + 5):
        house.relay.wake("jetson", wake(str(number)))
    house.live(11)
    assert [missed.id for missed in house.relay.missed("alice", [])] == [str(n) for n in range(5, MISSED_PER_USER + 5)]


def test_nothing_rings_for_a_user_who_logged_out() -> None:
    house = House()
    phone = house.phone("alice")
    house.relay.wake("jetson", wake())
    house.relay.left("alice")
    house.live(11)
    assert len(phone.frames) == 1
    assert house.connect("alice").frames == []
    assert house.relay.missed("alice", []) == []


def test_an_app_may_confirm_only_wakes_it_had_before_its_user_logged_out() -> None:
    house = House()
    house.relay.wake("jetson", wake("unheard"))
    house.relay.left("alice")
    house.phone("alice")
    house.relay.wake("jetson", wake())
    house.relay.left("alice")
    for wake_id in ("unheard", "w1"):
        house.relay.acked("alice", wake_id)
    assert house.outcomes() == [("jetson", "user_not_connected"), ("jetson", "sent"), ("jetson", "acked")]


@pytest.mark.parametrize(
    ("logged_in", "uid", "fate"), [("alice", "alice", "sent"), ("alice", "bob", "rejected"), (None, "bob", "rejected")]
)
def test_where_credentials_are_required_a_device_rings_only_whom_it_has_logged_in(
    logged_in: str | None, uid: str, fate: str
) -> None:
    house = House(**({"jetson": logged_in} if logged_in else {}))
    house.relay._strict = True
    phone = house.connect(uid)
    house.relay.wake("jetson", Wake(uid=uid, command="c", timestamp="t"))
    assert house.outcomes() == [("jetson", fate)]
    assert len(phone.frames) == (fate == "sent")


# --- pushes ---


def test_a_wake_that_no_socket_took_is_pushed_once_and_not_before_its_time() -> None:
    house = House()
    house.relay.wake("jetson", wake())
    house.clock.advance(PUSH_AFTER_S - 0.01)
    house.relay.tick()
    assert house.pushes == []
    house.clock.advance(0.01)
    house.relay.tick()
    assert [fate.wake for fate in house.pushes] == [wake()]
    house.relay.wake("jetson", wake(age_ms=2000))
    house.live(10)
    assert len(house.pushes) == 1


def test_what_a_half_open_socket_swallowed_is_pushed() -> None:
    house = House()
    house.phone("alice")
    house.relay.wake("jetson", wake())
    house.live(PUSH_AFTER_S)
    assert [fate.status for fate in house.pushes] == ["sent"]


def test_what_an_app_confirmed_or_an_old_app_got_is_not_pushed() -> None:
    house = House()
    house.phone("alice")
    house.relay.wake("jetson", wake("confirmed"))
    house.relay.acked("alice", "confirmed")
    house.phone("bob", "legacy")
    house.phone("bob")
    house.relay.wake("jetson", wake("old", uid="bob"))
    house.live(11)
    assert house.pushes == []


def test_what_is_over_before_its_time_stale_or_rejected_is_not_pushed() -> None:
    house = House(jetson="bob")
    house.relay.wake("jetson", wake("rejected"))
    house.relay.wake("other", wake("stale", age_ms=10_000))
    house.relay.wake("other", wake("short", age_ms=8_500))
    house.live(11)
    assert house.pushes == []


def test_no_push_is_due_for_a_wake_whose_life_is_over() -> None:
    wakes = Deliveries(MissedWakes())
    wakes.add(Delivery(wake(), "jetson", 100.0, 110.0), "reached", 100.0)
    assert wakes.due_for_push(110.0) == []
    assert [fate.wake.id for fate in wakes.due_for_push(109.9)] == ["w1"]


def test_no_push_follows_a_log_out_nor_is_one_reported() -> None:
    house = House()
    house.relay.wake("jetson", wake("before"))
    house.live(PUSH_AFTER_S)
    house.relay.wake("jetson", wake("after"))
    house.relay.left("alice")
    house.relay.pushed(house.pushes[0])
    house.live(11)
    assert [fate.wake.id for fate in house.pushes] == ["before"]
    assert ("jetson", "pushed") not in house.outcomes()


def test_the_device_hears_once_that_a_push_service_took_it_and_then_that_an_app_did() -> None:
    house = House()
    house.relay.wake("jetson", wake())
    house.live(PUSH_AFTER_S)
    (fate,) = house.pushes
    house.relay.pushed(fate)
    house.relay.pushed(fate)
    assert house.outcomes() == [("jetson", "user_not_connected"), ("jetson", "pushed")]
    phone = house.connect("alice")
    assert [frame["id"] for frame in phone.frames] == ["w1"]
    house.relay.acked("alice", "w1")
    house.relay.pushed(fate)
    house.live(11)
    assert house.outcomes()[2:] == [("jetson", "acked")]
    assert house.relay.missed("alice", []) == []


def test_a_wake_that_was_pushed_and_never_confirmed_is_missed() -> None:
    house = House()
    house.phone("alice")
    house.relay.wake("jetson", wake())
    house.live(PUSH_AFTER_S)
    house.relay.pushed(house.pushes[0])
    house.live(11)
    assert [missed.id for missed in house.relay.missed("alice", [])] == ["w1"]


def test_a_push_accepted_at_the_end_of_its_wake_is_reported_once_and_the_wake_missed() -> None:
    house = House()
    house.relay.wake("jetson", wake())
    house.live(10)
    for _ in range(2):
        house.relay.pushed(house.pushes[0])
    assert house.outcomes() == [("jetson", "user_not_connected"), ("jetson", "pushed")]
    house.relay.wake("jetson", wake(age_ms=2000))
    assert house.outcomes()[2:] == [("jetson", "pushed")]
    house.live(11)
    assert [missed.id for missed in house.relay.missed("alice", [])] == ["w1"]


def test_a_second_phone_whose_push_is_accepted_late_changes_nothing() -> None:
    house = House()
    house.relay.wake("jetson", wake())
    house.live(PUSH_AFTER_S)
    house.relay.pushed(house.pushes[0])
    house.live(10)
    house.relay.pushed(house.pushes[0])
    assert house.outcomes() == [("jetson", "user_not_connected"), ("jetson", "pushed")]


def test_a_wake_of_the_http_trigger_is_pushed_and_no_device_told() -> None:
    house = House()
    assert not house.relay.trigger(wake())
    house.live(PUSH_AFTER_S)
    house.relay.pushed(house.pushes[0])
    assert house.outcomes() == []


# --- any order ---


def known_to(house: House) -> list[Delivery]:
    return list(house.relay._deliveries._known.values())


def ack_all(house: House) -> None:
    for fate in known_to(house):
        house.relay.acked("alice", fate.wake.id)


def accept_pushes(house: House) -> None:
    for fate in house.pushes:
        house.relay.pushed(fate)


INPUTS: dict[str, Callable[[House], object]] = {
    "wake": lambda house: house.relay.wake("jetson", wake()),
    "another wake": lambda house: house.relay.wake("jetson", wake(f"new-{len(house.sent)}")),
    "stale wake": lambda house: house.relay.wake("jetson", wake(f"stale-{len(house.sent)}", age_ms=10_000)),
    "trigger": lambda house: house.relay.trigger(wake(f"trigger-{len(house.sent)}")),
    "app": lambda house: house.connect("alice"),
    "old app": lambda house: house.connect("alice", "legacy"),
    "no app": lambda house: [house.hub.leave("alice", socket) for socket in house.hub.of("alice")],
    "acks": ack_all,
    "pushes": accept_pushes,
    "log-out": lambda house: house.relay.left("alice"),
    "a moment": lambda house: house.live(0.5),
    "a while": lambda house: house.live(PUSH_AFTER_S),
    "untold end": lambda house: house.clock.advance(10),
    "end": lambda house: house.live(10),
}


@given(st.lists(st.sampled_from(sorted(INPUTS)), min_size=1, max_size=30))
def test_no_order_of_inputs_asks_for_a_transition_that_the_table_does_not_have(names: list[str]) -> None:
    house = House()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delivery, "REMEMBERED_WAKES", 3)
        for name in names:
            INPUTS[name](house)
            ringing = [fate for fates in house.relay._deliveries._living.values() for fate in fates]
            assert {id(fate) for fate in ringing} == {id(fate) for fate in known_to(house) if fate.state in RINGING}
