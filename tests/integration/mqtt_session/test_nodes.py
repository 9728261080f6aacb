"""infra.mqtt.session.MqttSession with the addresses of several brokers."""

from collections import Counter

import pytest

from infra.mqtt import pacing
from tests.integration.mqtt_session.session import FakeBroker, Peer, Session, logged, welcome
from tests.support.ports import free_port
from tests.support.waiting import wait_until
from tests.support.world import HOST


def nowhere() -> str:
    return f"mqtt://{HOST}:{free_port()}"


async def test_it_goes_to_the_next_address_when_a_connection_ends() -> None:
    async with FakeBroker(welcome) as one, FakeBroker(welcome) as two, Session(f"{one.url},{two.url}") as session:
        await session.connected()
        first = one if session.mqtt.node.url == one.url else two
        other = two if first is one else one
        assert not other.peers
        first.peers[0].writer.transport.abort()
        await session.connected(2)
        assert session.mqtt.node.url == other.url
        assert (len(first.peers), len(other.peers)) == (1, 1)


async def test_it_goes_past_addresses_without_a_broker_and_back_again() -> None:
    async with FakeBroker(welcome) as there, Session(f"{nowhere()},{there.url},{nowhere()}") as session:
        await session.connected()
        there.peers[0].writer.transport.abort()
        await session.connected(2)
        assert session.mqtt.node.url == there.url
        assert session.mqtt.problem is None


async def test_a_problem_names_the_address_that_has_it_and_is_logged_once_for_each() -> None:
    urls = [nowhere(), nowhere()]
    with logged() as lines:
        async with Session(",".join(urls)) as session:
            for url in (*urls, *urls, *urls):
                await session.problem(f"{url}: ")
                await session.problem("nothing listens at")
    told = Counter(line["port"] for line in lines if line["event"] == "mqtt_disconnected")
    assert told == {int(url.rpartition(":")[2]): 1 for url in urls}


async def test_with_one_address_the_problem_is_told_as_ever() -> None:
    async with Session(nowhere()) as session:
        await session.problem("nothing listens at")
        assert not (session.mqtt.problem or "").startswith("mqtt://")


def test_sessions_begin_at_different_addresses() -> None:
    urls = [nowhere(), nowhere(), nowhere()]
    begun = Counter(Session(",".join(urls)).mqtt.node.url for _ in range(100))
    assert set(begun) == set(urls)


async def test_it_leaves_an_address_that_never_answers_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a node of NATS does that meets an election."""
    monkeypatch.setattr("random.randrange", lambda _count: 0)
    monkeypatch.setattr(pacing, "ANSWER_OF_A_CLUSTER_S", 0.2)

    async def mute(peer: Peer) -> None:
        await peer.packet()

    async with FakeBroker(mute) as silent, FakeBroker(welcome) as there:
        silent_at = silent.url
        with logged() as lines:
            async with Session(f"{silent.url},{there.url}") as session:
                await session.connected()  # a busy machine may make the other one late, too
                assert session.mqtt.node.url == there.url
                await wait_until("the first socket is closed", lambda: silent.peers[0].gone)
    told = [line["reason"] for line in lines if line["event"] == "mqtt_disconnected" and str(line["port"]) in silent_at]
    assert len(told) == 1
    assert "did not answer within 0.2 s" in told[0]


async def test_what_was_logged_before_a_connection_is_logged_again_after_it() -> None:
    async with FakeBroker(welcome) as there:
        with logged() as lines:
            async with Session(f"{there.url},{nowhere()}") as session:
                for nth in (1, 2):
                    await session.connected(nth)
                    there.peers[-1].writer.transport.abort()
                await session.connected(3)
        ended = [line for line in lines if line["event"] == "mqtt_disconnected" and str(line["port"]) in there.url]
    assert len(ended) == 2
