"""Two or three bridges, each of which hears every wake: where does it ring, and who says so?"""

import asyncio
import random
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.cluster.peers import Peers
from contract.messages import Seek, Wake, unnamed_id
from tests.support.harness.wakes import OneBridge, Town

BAD = {"user_not_connected", "expired", "rejected"}
NAMES = st.sampled_from(["ab", "abc"])
SEEDS = st.integers(0, 2**32)
LATE = st.dictionaries(st.sampled_from("abc"), st.floats(0, 8.5), max_size=3)


def order_of(town: Town, name: str = "w1") -> list[OneBridge]:
    """The bridges in the order in which they act for a wake."""
    instances = list(town.bridges)
    return sorted(
        town.bridges.values(),
        key=lambda bridge: Peers(bridge.name, tuple(one for one in instances if one != bridge.name)).rank(name),
    )


def test_the_bridge_with_the_socket_rings_it_and_no_other_says_anything() -> None:
    town = Town()
    phone = town.bridges["b"].phone()
    town.wake()
    town.lives(1.0)
    assert set(phone.rung()) == {"w1"}
    assert town.told() == [("b", "sent")]
    assert town.sought == 0


def test_a_wake_that_the_holder_hears_late_is_rung_when_another_asks_for_it() -> None:
    town = Town()
    first, second = order_of(town)
    phone = second.phone()
    town.wake({second.name: 5.0})
    town.lives(0.4)
    assert phone.rung() == ["w1"]
    assert town.told() == [(second.name, "sent")]
    town.lives(11.0)
    assert phone.got[0]["age_ms"] == pytest.approx(150, abs=60)
    assert town.told() == [(second.name, "sent")], "it is not told again when the broker delivers the wake at last"
    assert first.pushed == []


async def test_a_wake_is_asked_for_in_time_whatever_else_waits_longer() -> None:
    """Asked for 150 ms after it came, also while the task waits for the end of an earlier one."""
    town = Town()
    first = order_of(town, "w1")[0]
    clock = town.clock
    sought: list[str] = []

    def seek(payload: bytes) -> bool:
        sought.append(Seek.decode(payload).wake.id)
        return True

    first.wakes._publish_seek = seek
    later = next(f"w{number}" for number in range(2, 100) if order_of(town, f"w{number}")[0] is first)
    task = asyncio.create_task(first.wakes.run())
    try:
        first.wakes.wake("jetson", Wake(id="w1", uid="alice", command="c", timestamp="t"))
        await clock.run(0.2, step_s=0.05)
        assert sought == ["w1"]
        first.wakes.wake("jetson", Wake(id=later, uid="bob", command="c", timestamp="t"))
        await clock.run(0.2, step_s=0.05)
        assert sought == ["w1", later]
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_that_no_user_is_there_is_said_once_by_the_first_of_the_order() -> None:
    town = Town("abc")
    town.wake()
    town.lives(0.5)
    assert town.heard == []
    town.lives(0.11)
    assert town.heard == ["user_not_connected"]
    town.lives(11.0)
    assert town.told() == [(order_of(town)[0].name, "user_not_connected")]


def test_a_first_bridge_that_is_dead_costs_a_quarter_of_a_second() -> None:
    town = Town()
    first, second = order_of(town)
    first.alive = False
    town.wake()
    town.lives(0.7)
    assert town.heard == []
    town.lives(0.2)
    assert town.told() == [(second.name, "user_not_connected")]


def test_a_holder_that_does_not_act_is_asked_before_anything_bad_is_said() -> None:
    """It leaves, or its database is cut off: the other is the only one that acts, and not alone."""
    town = Town()
    a, b = town.bridges.values()
    a.others, a.around = (), True
    b.others = ()
    b.around = True
    phone = b.phone()
    town.wake({"b": 5.0})
    town.lives(1.0)
    assert phone.rung() == ["w1"]
    assert town.told() == [("b", "sent")]
    town.wake(wake_id="w2", uid="absent")
    town.lives(0.6)
    assert ("a", "user_not_connected") in town.told()


@pytest.mark.parametrize("lost_at", [0.1, 0.16, 0.45])
def test_a_bridge_that_lost_its_broker_when_it_asked_asks_again(lost_at: float) -> None:
    """Its question may be lost with the connection, and the holder hears of the wake seconds later."""
    town = Town(quick_s=0.0)
    first, second = order_of(town)
    phone = second.phone()
    town.wake({second.name: 5.0})
    if lost_at > 0.15:
        seek = second.wakes.seek
        second.wakes.seek = lambda *_: None  # type: ignore[method-assign]
        town.later(lost_at, lambda: setattr(second.wakes, "seek", seek))
    town.later(lost_at, lambda: first.loses_broker_for(0.2))
    town.lives(1.5)
    assert phone.rung() == ["w1"]
    assert town.told() == [(second.name, "sent")]


def test_a_wake_whose_user_is_logged_out_while_it_waits_has_an_outcome_and_is_not_missed() -> None:
    town = Town()
    town.wake()
    town.lives(0.2)
    for bridge in town.bridges.values():
        bridge.wakes.left("alice")
    town.lives(11.0)
    assert set(town.heard) == {"user_not_connected"}
    phone = town.bridges["a"].phone()
    assert (phone.rung(), [bridge.relay.take_unsaved() for bridge in town.bridges.values()]) == ([], [[], []])


def test_a_bridge_alone_says_at_once_what_it_knows() -> None:
    town = Town("a")
    town.wake()
    town.lives(0.01)
    assert town.told() == [("a", "user_not_connected")]
    assert town.sought == 0


def test_what_is_not_known_of_the_ledger_makes_no_bad_word_and_a_log_in_there_rings() -> None:
    town = Town(strict=True)
    first, second = order_of(town)
    first.looks = second.looks = False
    phone = second.phone()
    town.lives(0.1)
    town.wake()
    town.lives(1.0)
    assert (town.told(), phone.rung()) == ([], [])
    second.users["jetson"] = "alice"  # the log-in, now read
    second.looks = True
    town.lives(0.6)
    assert phone.rung() == ["w1"]
    assert town.told() == [(second.name, "sent")]


def test_a_log_in_that_is_read_in_time_rings_before_another_bridge_says_that_nobody_is_there() -> None:
    town = Town(strict=True)
    first, second = order_of(town)
    phone = second.phone()
    first.users["jetson"] = "alice"
    town.lives(0.1)
    town.wake()
    town.lives(0.3)
    second.users["jetson"] = "alice"
    town.lives(1.5)
    assert set(phone.rung()) == {"w1"}
    assert town.told() == [(second.name, "sent")]


def test_a_wake_for_another_user_is_rejected_once() -> None:
    town = Town(strict=True)
    for bridge in town.bridges.values():
        bridge.users["jetson"] = "bob"
        bridge.phone("alice")
    town.wake()
    town.lives(11.0)
    assert [status for _, status in town.told()] == ["rejected"]


def test_a_stale_wake_is_told_once_and_rings_no_phone() -> None:
    town = Town()
    phone = town.bridges["a"].phone()
    for bridge in town.bridges.values():
        bridge.wakes.wake("jetson", Wake(id="w1", uid="alice", command="c", timestamp="t", age_ms=10_000))
    town.lives(2.0)
    assert [status for _, status in town.told()] == ["expired"]
    assert phone.rung() == []


def test_an_app_that_confirms_at_one_bridge_is_rung_no_more_at_another() -> None:
    town = Town()
    here, there = town.bridges["a"].phone(), town.bridges["b"].phone()
    town.wake()
    town.lives(0.2)
    town.bridges["a"].relay.acked("alice", "w1")
    town.lives(11.0)
    assert (here.rung(), there.rung()) == (["w1"], ["w1"])
    assert town.heard[-1] == "acked"
    assert [bridge.pushed for bridge in town.bridges.values()] == [[], []]
    assert town.bridges["b"].relay.missed("alice", []) == []


def test_a_phone_that_moves_to_another_bridge_is_rung_there() -> None:
    town = Town()
    town.bridges["a"].phone()
    town.wake()
    town.lives(1.0)
    town.bridges["a"].alive = False
    town.bridges["b"].others = ()
    assert town.bridges["b"].phone().rung() == ["w1"]
    assert town.bridges["b"].phone(mode="legacy").rung() == []


def test_nothing_rings_after_a_log_out() -> None:
    town = Town()
    town.bridges["a"].phone()
    town.wake()
    town.lives(1.0)
    for bridge in town.bridges.values():
        bridge.wakes.left("alice")
    assert town.bridges["b"].phone().rung() == []


def test_who_said_that_nobody_is_there_leaves_the_rest_to_the_bridge_that_rings_it_later() -> None:
    town = Town()
    first, second = order_of(town)
    town.wake()
    town.lives(1.0)
    second.phone()
    town.lives(10.0)
    assert [status for _, status in town.told()] == ["user_not_connected", "sent"]
    assert first.pushed == []
    assert (len(first.relay.missed("alice", [])), len(second.relay.missed("alice", []))) == (0, 1)


def test_a_wake_without_an_id_rings_once_and_is_not_said_to_reach_no_user() -> None:
    town = Town()
    phone = town.bridges["b"].phone()
    for bridge in town.bridges.values():
        bridge.wakes.wake("jetson", Wake(id=unnamed_id(), uid="alice", command="c", timestamp="t"))
    town.lives(1.5)
    assert len(set(phone.rung())) == 1
    assert town.told() == [("b", "sent")]
    assert town.sought == 0


def test_a_wake_without_an_id_that_reaches_no_user_is_told_once() -> None:
    town = Town()
    for bridge in town.bridges.values():
        bridge.wakes.wake("jetson", Wake(id=unnamed_id(), uid="alice", command="c", timestamp="t"))
    town.lives(1.5)
    assert [status for _, status in town.told()] == ["user_not_connected"]


def test_the_id_of_another_devices_wake_is_refused() -> None:
    town = Town()
    town.wake()
    town.lives(0.1)
    phone = town.bridges["a"].phone("bob")
    town.bridges["a"].wakes.wake("other", Wake(id="w1", uid="bob", command="c", timestamp="t"))
    assert phone.rung() == []


@settings(deadline=None)
@given(names=NAMES, late=LATE, seed=SEEDS, at=st.integers(0, 2))
def test_a_phone_with_a_socket_anywhere_rings_and_no_bridge_says_that_it_is_not_there(
    names: str, late: Mapping[str, float], seed: int, at: int
) -> None:
    town = Town(names, seed=seed)
    phone = town.bridges[names[at % len(names)]].phone()
    town.wake(dict(late))
    town.lives(max(0.0, min(late.get(name, 0.0) for name in names)) + 0.8)
    assert set(phone.rung()) == {"w1"}
    town.lives(9.0)
    assert set(town.heard) == {"sent"}
    assert BAD.isdisjoint(status for _, status in town.told())


@settings(deadline=None)
@given(names=NAMES, late=LATE, seed=SEEDS, dead=st.integers(-1, 2))
def test_without_a_socket_a_bridge_says_so_in_time(names: str, late: Mapping[str, float], seed: int, dead: int) -> None:
    """Two may say so in the same moment, if they heard of the wake at different times."""
    town = Town(names, seed=seed)
    if 0 <= dead < len(names):
        town.bridges[names[dead]].alive = False
    heard_at = min(late.get(name, 0.0) for name in names if town.bridges[name].alive)
    town.wake(dict(late))
    town.lives(min(heard_at, 2.0) + 0.5 + 0.25 * (len(names) - 1) + 0.2)
    assert set(town.heard) == {"user_not_connected"}
    town.lives(10.0)
    assert {status for _, status in town.told()} == {"user_not_connected"}


@settings(deadline=None)
@given(names=NAMES, late=st.dictionaries(st.sampled_from("abc"), st.floats(0, 0.1), max_size=3), seed=SEEDS)
def test_bridges_that_hear_a_wake_at_the_same_time_say_one_bad_word(
    names: str, late: Mapping[str, float], seed: int
) -> None:
    town = Town(names, seed=seed)
    town.wake(dict(late))
    town.lives(11.0)
    assert [status for _, status in town.told()] == ["user_not_connected"]


@settings(deadline=None)
@given(names=NAMES, late=LATE, seed=SEEDS, at=st.integers(0, 2), share=st.floats(0, 1))
def test_whatever_is_lost_for_three_seconds_the_phone_rings_and_the_device_hears_of_it(
    names: str, late: Mapping[str, float], seed: int, at: int, share: float
) -> None:
    losses = random.Random(seed)  # noqa: S311 - no secret
    town = Town(names, seed=seed, lost=lambda now: now < 3.0 and losses.random() < share)
    phone = town.bridges[names[at % len(names)]].phone()
    town.wake(dict(late))
    town.lives(10.0)
    assert set(phone.rung()) == {"w1"}
    assert town.heard


@settings(deadline=None)
@given(names=NAMES, late=LATE, seed=SEEDS, share=st.floats(0, 1))
def test_whatever_is_lost_for_three_seconds_no_wake_is_silent_for_ever(
    names: str, late: Mapping[str, float], seed: int, share: float
) -> None:
    losses = random.Random(seed)  # noqa: S311 - no secret
    town = Town(names, seed=seed, lost=lambda now: now < 3.0 and losses.random() < share)
    town.wake(dict(late))
    town.lives(10.0)
    assert set(town.heard) == {"user_not_connected"}
