"""Two whole bridges on one ledger: what one publishes, the other hears through its MQTT session."""

import asyncio
from typing import cast

import pytest

from bridge.apps.connection import AppConnection
from bridge.cluster.peers import ALONE
from bridge.service import Bridge
from bridge.wakes.shared import SharedWakes
from bridge.wakes.verdicts import ACKED
from contract.app_socket import CloseCode
from contract.messages import (
    LEGACY_DEVICE,
    MOST_OUTCOMES,
    News,
    Outcomes,
    OutcomeStatus,
    Seek,
    SoughtWake,
    Wake,
    encode_outcomes,
    new_id,
)
from contract.topics import HELLO, JOINED, NEWS, OUTCOME, OUTCOMES, SEEK, WAKE
from contract.wake_codec import QuickWake
from tests.support.clock import settle
from tests.support.harness.bridges import Bridges


@pytest.fixture
def bridges() -> Bridges:
    return Bridges("a", "b")


def trigger() -> QuickWake:
    return QuickWake("alice", "wake_up", "now", id=new_id(), device_id=LEGACY_DEVICE)


def device_rings(bridges: Bridges, wake_id: str) -> None:
    wake = Wake(id=wake_id, uid="alice", command="c", timestamp="t")
    bridges.air.publish(WAKE.name("sarvis/v1", "jetson"), wake.encode(), 1, False)


def words(bridge: Bridge, count: int) -> list[int]:
    """The most that the bridge has heard of each of these wakes of another."""
    assert isinstance(bridge._wakes, SharedWakes)
    known = [bridge._wakes._verdicts.known(f"w{number}") for number in range(count)]
    return [one.word for one in known if one is not None]


async def asked(bridges: Bridges, name: str, *, waits_s: float = 0.0) -> bool:
    """The answer to an HTTP caller, and how long it took at most."""
    answer = asyncio.create_task(bridges.all[name].trigger(trigger()))
    await settle()
    if waits_s:
        assert not answer.done()
        bridges.clock.advance(waits_s)
        await settle()
    assert answer.done()
    return answer.result()


def test_a_newer_socket_of_the_same_client_closes_the_older_one_at_the_other_bridge(bridges: Bridges) -> None:
    old = bridges.socket("a", client="phone", turn=1)
    other = bridges.socket("a", client="tablet", turn=2)
    new = bridges.socket("b", client="phone", turn=3)
    assert (old.ended, other.ended, new.ended) == (CloseCode.REPLACED, 0, 0)
    assert bridges.all["a"].hub.of("alice") == (cast("AppConnection", other),)


def test_an_older_socket_that_joins_last_is_the_one_that_closes(bridges: Bridges) -> None:
    """Its bridge heard of the newer one before it had the older one."""
    new = bridges.socket("b", client="phone", turn=3)
    old = bridges.socket("a", client="phone", turn=1)
    assert (old.ended, new.ended) == (CloseCode.REPLACED, 0)
    assert len(bridges.air.told(JOINED)) == 3


def test_a_user_has_at_most_eight_sockets_at_two_bridges(bridges: Bridges) -> None:
    at_a = [bridges.socket("a", turn=turn) for turn in range(1, 6)]
    at_b = [bridges.socket("b", turn=turn) for turn in range(6, 10)]
    assert [socket.ended for socket in at_a] == [CloseCode.TOO_MANY, 0, 0, 0, 0]
    assert [socket.ended for socket in at_b] == [0] * 4


def test_a_bridge_alone_tells_of_no_socket(bridges: Bridges) -> None:
    bridges.all["a"].sessions.peers = ALONE
    bridges.socket("a", client="phone", turn=1)
    assert bridges.air.told(JOINED) == []


async def test_an_http_trigger_rings_here_and_at_the_other_bridge(bridges: Bridges) -> None:
    here, there = bridges.socket("a", turn=1), bridges.socket("b", turn=2)
    assert await asked(bridges, "a")
    assert len(here.rung()) == len(there.rung()) == 1
    assert len(bridges.air.told(WAKE)) == 1, "the mirror for operators"
    assert len(bridges.air.told(OUTCOMES)) == 1, "of the one that was asked"
    assert bridges.air.told(OUTCOME) == [], "no device waits for it"


async def test_an_http_trigger_rings_a_user_who_has_a_socket_only_at_the_other_bridge(bridges: Bridges) -> None:
    phone = bridges.socket("b", turn=1)
    assert await asked(bridges, "a")
    assert len(phone.rung()) == 1
    told = [message.outcomes for _, message in bridges.air.told(OUTCOMES) if isinstance(message, Outcomes)]
    assert [(device_id, status) for ((device_id, _, status),) in told] == [(LEGACY_DEVICE, "sent")]


async def test_a_trigger_with_a_known_id_has_the_same_answer_and_does_not_ring_again(bridges: Bridges) -> None:
    phone, wake = bridges.socket("b", turn=1), trigger()
    assert [await bridges.all[name].trigger(wake) for name in "aaba"] == [True] * 4
    assert len(phone.rung()) == 1


async def test_an_http_trigger_for_an_absent_user_is_answered_after_four_tenths_of_a_second(bridges: Bridges) -> None:
    assert not await asked(bridges, "a", waits_s=0.4)
    assert len(bridges.air.told(SEEK)) == 1
    late = bridges.socket("a", turn=1)
    assert len(late.rung()) == 1, "it rings while it lives, as with one bridge"


async def test_an_http_trigger_at_a_bridge_alone_is_answered_at_once(bridges: Bridges) -> None:
    bridges.all["a"].sessions.peers = ALONE
    assert not await asked(bridges, "a")
    assert bridges.air.told(SEEK) == []


async def test_a_wake_of_a_caller_who_gave_up_is_kept(bridges: Bridges) -> None:
    answer = asyncio.create_task(bridges.all["a"].trigger(trigger()))
    await settle()
    answer.cancel()
    await settle()
    assert bridges.all["a"].relay.rings("alice")
    assert len(bridges.socket("a", turn=1).rung()) == 1


async def test_a_log_out_at_one_bridge_closes_the_socket_at_the_other_at_once(bridges: Bridges) -> None:
    a, b = bridges.all.values()
    tasks = [asyncio.create_task(work) for one in (a, b) for work in (one._news_hints.run(), one._news_hints.look())]
    for bridge in (a, b):
        await bridge.sessions.load()
    await a.sessions.connected("alice")
    phone = bridges.socket("a", turn=a.sessions.turn)
    await b.sessions.logout("alice", "app")
    await settle()
    assert phone.ended == CloseCode.LOGGED_OUT
    assert bridges.air.told(NEWS) == [("b", News(turn=b.sessions.turn))], "who follows hints at nothing"
    for task in tasks:
        task.cancel()


def test_what_bridges_say_is_not_limited_as_what_devices_say(bridges: Bridges) -> None:
    bridge = bridges.all["a"]
    assert all(bridge._admit_beside_others(SEEK, "jetson") for _ in range(1000))
    assert bridge._admit_beside_others(HELLO, "jetson")
    assert [bridge._admit_beside_others(OUTCOMES, name) for name in "ab"] == [False, True], (
        "what it said itself is known"
    )


async def test_what_is_told_to_devices_is_told_to_other_bridges_in_one_message(bridges: Bridges) -> None:
    """Each wake's newest outcome, 20 ms after the first; who answers another bridge does so at once."""
    a, b = bridges.all.values()
    assert a._told is not None
    task = asyncio.create_task(a._told.run())
    bridges.socket("a", turn=1)
    for number in range(3):
        device_rings(bridges, f"w{number}")
        a.relay.acked("alice", f"w{number}")
    assert bridges.air.told(OUTCOMES) == []
    assert words(b, 3) == [0, 0, 0]
    await settle()
    bridges.clock.advance(0.02)
    await settle()
    ((owner, message),) = bridges.air.told(OUTCOMES)
    assert owner == "a"
    assert message == Outcomes(outcomes=tuple(("jetson", f"w{number}", "acked") for number in range(3)))
    assert words(b, 3) == [ACKED] * 3
    task.cancel()


async def test_a_bridge_alone_tells_no_other_of_outcomes(bridges: Bridges) -> None:
    a = bridges.all["a"]
    a.sessions.peers = ALONE
    assert a._told is not None
    task = asyncio.create_task(a._told.run())
    bridges.socket("a", turn=1)
    device_rings(bridges, "w")
    await settle()
    bridges.clock.advance(0.1)
    await settle()
    assert bridges.air.told(OUTCOMES) == []
    seek = Seek(device_id="jetson", wake=SoughtWake(id="w", uid="alice", command="c", timestamp="t"))
    bridges.air.publish(SEEK.name("sarvis/v1", "b"), seek.encode(), 0, False)
    assert bridges.air.told(OUTCOMES) == [("a", Outcomes(outcomes=(("jetson", "w", "sent"),)))], "asked, it answers"
    task.cancel()


async def test_many_outcomes_do_not_wait(bridges: Bridges) -> None:
    bridges.socket("a", turn=1)
    for number in range(MOST_OUTCOMES + 1):
        device_rings(bridges, f"w{number}")
    ((_, message),) = bridges.air.told(OUTCOMES)
    assert isinstance(message, Outcomes)
    assert len(message.outcomes) == MOST_OUTCOMES
    longest: list[tuple[str, str, OutcomeStatus]] = [("d" * 64, '"' * 64, "user_not_connected")] * MOST_OUTCOMES
    assert len(encode_outcomes(longest)) < Outcomes.max_bytes
