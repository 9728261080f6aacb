"""What the story of a wake says, for each way that it can go."""

from typing import Any, cast

import msgspec

from bridge.apps.connection import AppConnection
from bridge.apps.hub import Hub
from bridge.stories.file import encoded
from bridge.stories.records import STEPS, Story
from bridge.wakes.delivery import AGAIN_S, Delivery
from bridge.wakes.relay import Relay
from bridge.wakes.story import MOST_SENT, MOST_STEPS, StoryBook
from contract.messages import Wake
from tests.support.clock import ManualClock


class Socket:
    """The side of a connection that the relay sees."""

    def __init__(self, label: str, uid: str = "alice", mode: str = "v2", *, ended: int = 0) -> None:
        self.label, self.uid, self.mode, self.ended = label, uid, mode, ended
        self.has_room = True

    def send(self, _frame: str) -> bool:
        return not self.ended


class House:
    def __init__(self, *, on: bool = True, told: bool = True, **users: str) -> None:
        self.hub: Hub[AppConnection] = Hub(100)
        self.clock = ManualClock()
        self.book = StoryBook(self.clock) if on else None
        self.pushed: list[Delivery] = []
        self.relay = Relay(
            self.hub,
            self.clock,
            tell=lambda _device_id, _outcome: told,
            mirror=lambda _wake: True,
            user_of=users.get,
            strict=True,
            push=lambda delivery, _on_accepted: self.pushed.append(delivery),
            book=self.book,
        )

    def socket(self, label: str, mode: str = "v2", *, ended: int = 0) -> AppConnection:
        socket = cast("AppConnection", Socket(label, mode=mode, ended=ended))
        self.hub.join("alice", socket)
        return socket

    def wake(self, device_id: str = "jetson", **more: Any) -> None:
        self.relay.wake(device_id, Wake(id="w1", uid="alice", command="c", timestamp="t", **more))

    def live(self, seconds: float) -> None:
        for _ in range(round(seconds * 2)):
            self.clock.advance(0.5)
            self.relay.tick()

    def story(self) -> Story:
        """As it is read back from the file."""
        assert self.book is not None
        (story,) = msgspec.msgpack.decode(encoded(self.book.take()), type=list[Story])
        return story

    def steps(self) -> list[tuple[Any, ...]]:
        steps = [tuple(step[1:]) for step in self.story().steps]
        assert {step[0] for step in steps} <= STEPS.keys()
        return steps


def test_a_wake_that_rang_tells_which_socket_took_it_and_how_it_rang() -> None:
    house = House(jetson="alice")
    house.socket("phone")
    house.wake(score=0.83, model="ssabiseu", age_ms=7)
    house.clock.advance(0.25)
    house.relay.acked("alice", "w1", "phone", {"permission": "granted"})
    story = house.story()
    assert (story.uid, story.device_id, story.score, story.model, story.age_ms) == (
        "alice", "jetson", 0.83, "ssabiseu", 7,
    )  # fmt: skip
    assert (story.state, story.status, story.latency_ms) == ("acked", "acked", 250.0)
    assert [(story.ms(step), *step[1:]) for step in story.steps] == [
        (0.0, "queued", "phone", "v2"),
        (250.0, "acked", "phone", {"permission": "granted"}),
    ]


def test_each_app_that_rang_is_named_once() -> None:
    house = House(jetson="alice")
    house.socket("phone")
    house.socket("watch")
    house.wake()
    for label in ("phone", "phone", "watch", "watch"):
        house.relay.acked("alice", "w1", label)
    assert [step for step in house.steps() if step[0] == "acked"] == [
        ("acked", "phone", None),
        ("acked", "watch", None),
    ]


def test_a_wake_that_may_not_ring_tells_why() -> None:
    for house, age_ms, refused in (
        (House(jetson="alice"), 10_000, ("refused", "stale", None)),
        (House(), 0, ("refused", "no_user", None)),
        (House(jetson="bob"), 0, ("refused", "other_user", "bob")),
    ):
        house.wake(age_ms=age_ms)
        assert house.steps() == [refused]


def test_a_slow_and_a_closing_socket_are_named_with_their_close_code() -> None:
    house = House(jetson="alice")
    house.socket("slow", ended=4001)
    house.wake()
    assert house.steps() == [("not_queued", "slow", "v2", 4001)]


def test_a_socket_that_is_closed_before_it_confirms_is_named() -> None:
    house = House(jetson="alice")
    socket = house.socket("phone")
    other = cast("AppConnection", Socket("never had it"))
    house.wake()
    socket.ended = 1006
    house.relay.closed(socket)
    house.relay.closed(other)
    assert house.steps() == [("queued", "phone", "v2"), ("closed", "phone", 1006)]


def test_copies_another_device_and_a_missing_broker_are_noted() -> None:
    house = House(jetson="alice", told=False)
    house.wake()
    house.wake()
    house.wake("other")
    assert house.steps() == [("untold",), ("copy",), ("untold",), ("foreign_id", "other")]


def test_a_missed_wake_ends_its_story_with_it_and_a_late_confirmation_is_noted() -> None:
    house = House(jetson="alice")
    house.socket("phone")
    house.wake()
    assert house.story().state == "sent"
    house.live(10.5)
    house.relay.acked("alice", "w1", "phone")
    story = house.story()
    assert story.state == "missed"
    assert [step[1] for step in story.steps] == ["queued", *["again"] * 4, "acked_late"]
    assert house.book is not None
    assert house.book.take() == []


def test_a_socket_that_connects_while_it_rings_is_named() -> None:
    house = House(jetson="alice")
    house.wake()
    house.relay.connected(house.socket("phone"))
    assert house.steps() == [("queued", "phone", "v2")]


def test_a_push_is_a_step_of_its_wake() -> None:
    house = House(jetson="alice")
    house.wake()
    house.live(AGAIN_S)
    (delivery,) = house.pushed
    assert house.book is not None
    house.book.note(delivery, "push", "https://push.example", "gone")
    assert house.steps() == [("push", "https://push.example", "gone")]


def test_a_story_has_bounds_and_keeps_room_for_what_became_of_it() -> None:
    house = House(jetson="alice")
    for number in range(100):
        house.socket(f"phone-{number}")
    house.wake()
    for number in range(100):
        house.relay.acked("alice", "w1", f"phone-{number}")
    steps = [step[0] for step in house.steps()]
    assert steps == ["queued"] * MOST_SENT + ["acked"] * (MOST_STEPS - MOST_SENT)


def test_without_stories_a_wake_goes_the_same_way_and_nothing_is_noted() -> None:
    house = House(on=False, jetson="alice")
    phone = house.socket("phone")
    house.wake()
    house.wake("other")
    house.relay.acked("alice", "w1", "phone", {"visible": True})
    house.relay.closed(phone)
    house.live(11)
    delivery = house.relay._deliveries.known("w1")
    assert delivery is not None
    assert (delivery.state, delivery.steps) == ("acked", None)


def test_a_forgotten_user_is_in_no_story_that_is_written_later() -> None:
    house = House(jetson="alice", kitchen="carol")
    house.socket("phone")
    house.wake()
    house.relay.wake("kitchen", Wake(id="w2", uid="bob", command="c", timestamp="t"))
    house.relay.left("alice")
    house.relay.left("carol")
    house.relay.forget("alice", "forgotten-1")
    house.relay.forget("carol", "forgotten-2")
    assert house.book is not None
    house.book.take()
    house.relay.acked("alice", "w1", "phone")
    house.wake()
    house.relay.wake("kitchen", Wake(id="w2", uid="bob", command="c", timestamp="t"))
    written = encoded(house.book.take())
    assert b"w1" in written, "its device sent it again: it is still known, and does not ring again"
    assert b"alice" not in written
    assert b"carol" not in written
    assert b"forgotten-2" in written


def test_a_missed_wake_of_a_forgotten_user_is_not_stored() -> None:
    house = House(jetson="alice")
    house.wake(ttl_ms=1000)
    house.clock.advance(5)
    house.relay.forget("alice", "forgotten-1")
    assert house.relay.take_unsaved() == []
