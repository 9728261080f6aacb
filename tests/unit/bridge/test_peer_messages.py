"""Two whole bridges on one ledger: what one publishes, the other hears through its MQTT session."""

import asyncio
from typing import cast

import pytest

from bridge.apps.connection import AppConnection
from bridge.cluster.peers import ALONE
from contract.app_socket import CloseCode
from contract.messages import LEGACY_DEVICE, News, Outcome, new_id
from contract.topics import JOINED, NEWS, OUTCOME, SEEK, WAKE
from contract.wake_codec import QuickWake
from tests.support.clock import settle
from tests.support.harness.bridges import Bridges


@pytest.fixture
def bridges() -> Bridges:
    return Bridges("a", "b")


def trigger() -> QuickWake:
    return QuickWake("alice", "wake_up", "now", id=new_id(), device_id=LEGACY_DEVICE)


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
    assert len(bridges.air.told(OUTCOME)) == 2, "of each bridge"


async def test_an_http_trigger_rings_a_user_who_has_a_socket_only_at_the_other_bridge(bridges: Bridges) -> None:
    phone = bridges.socket("b", turn=1)
    assert await asked(bridges, "a")
    assert len(phone.rung()) == 1
    told = [message.status for _, message in bridges.air.told(OUTCOME) if isinstance(message, Outcome)]
    assert told == ["sent"]


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


def test_what_bridges_say_is_not_held_against_a_device(bridges: Bridges) -> None:
    bridge = bridges.all["a"]
    for _ in range(1000):
        assert bridge._admit_beside_others(OUTCOME, "jetson")
    assert bridge._admit_beside_others(WAKE, "jetson")
