"""infra.mqtt.session.MqttSession against real brokers."""

import asyncio
import socket

from contract.messages import BridgeStatus, Outcome
from contract.topics import BRIDGE_STATUS, OUTCOME, WAKE
from infra.mqtt.session import Outgoing
from tests.integration.mqtt_session.session import (
    Session,
    invalid,
    logged,
    wake_bytes,
)
from tests.support.waiting import wait_until
from tests.support.world import Broker, Mqtt, unique


async def test_it_hears_again_after_the_broker_was_restarted(broker: Broker) -> None:
    async with Session(broker.url) as session:
        await session.connected()
        await asyncio.to_thread(broker.kill)
        await wait_until("disconnected", lambda: session.log == ["connected", "disconnected"])
        assert not session.mqtt.connected
        await session.problem(" ")
        await asyncio.to_thread(broker.start)
        await session.connected(2)
        with Mqtt(broker.port) as other:
            wake_id = other.wake("x", "u")
            await wait_until("the wake", lambda: session.wakes() == [wake_id])


async def test_it_waits_for_a_broker_that_is_down_and_says_so(broker: Broker) -> None:
    await asyncio.to_thread(broker.kill)
    try:
        async with Session(broker.url) as session:
            await session.problem("refused")
            assert session.log == []
            await asyncio.to_thread(broker.start)
            await session.connected()
            assert session.mqtt.problem is None
    finally:
        if session.log == []:
            await asyncio.to_thread(broker.start)


async def test_what_could_not_be_sent_is_not_sent_later(broker: Broker) -> None:
    async with Session(broker.url) as session:
        await session.connected()
        await asyncio.to_thread(broker.kill)
        await wait_until("disconnected", lambda: not session.mqtt.connected)
        assert session.say("lost") is False
        await asyncio.to_thread(broker.start)
        await session.connected(2)
        with Mqtt(broker.port) as other:
            assert session.say("sent") is True
            await asyncio.to_thread(other.message, f"devices/{session.owner}/wake", lambda wake: wake["id"] == "sent")
            assert [wake["id"] for wake in other.messages(f"devices/{session.owner}/wake")] == ["sent"]
        await wait_until("its own wake", lambda: session.wakes() == ["sent"])


async def test_its_last_will_appears_when_the_connection_dies(broker: Broker) -> None:
    with Mqtt(broker.port) as other:
        async with Session(broker.url) as session:
            await session.connected()
            client = session.mqtt._client
            assert client is not None
            sock = client.socket()
            assert isinstance(sock, socket.socket)
            sock.shutdown(socket.SHUT_RDWR)
            topic = f"bridges/{session.owner}/status"
            will = await asyncio.to_thread(other.message, topic)
            assert will["state"] == "offline"
            await session.connected(2)


async def test_a_connection_that_is_renewed_leaves_no_last_will_and_has_a_new_one(broker: Broker) -> None:
    with Mqtt(broker.port) as other:
        async with Session(broker.url) as session:
            await session.connected()
            wills = iter(["the second", "at the end"])
            session.mqtt.last_will = lambda: Outgoing(
                BRIDGE_STATUS, session.owner, BridgeStatus(state="offline", version=next(wills))
            )
            session.mqtt.renew()
            session.mqtt.renew()
            await session.connected(2)
            client = session.mqtt._client
            assert client is not None
            sock = client.socket()
            assert isinstance(sock, socket.socket)
            sock.shutdown(socket.SHUT_RDWR)
            topic = f"bridges/{session.owner}/status"
            will = await asyncio.to_thread(other.message, topic)
            assert will["version"] == "the second"
            assert len(other.messages(topic)) == 1
            await session.connected(3)
            session.mqtt.last_will = None


async def test_it_says_farewell_when_it_is_cancelled(broker: Broker) -> None:
    with Mqtt(broker.port) as other:
        async with Session(broker.url) as session:
            await session.connected()
        assert session.log == ["connected", "disconnected"]
        topic = f"bridges/{session.owner}/status"
        told = await asyncio.to_thread(other.message, topic)
        assert told["state"] == "offline"
        with Mqtt(broker.port) as newcomer:
            await asyncio.to_thread(newcomer.message, topic)
            assert [kept for name, _, kept in newcomer.got if name.endswith(topic)] == [True]
        assert len(other.messages(topic)) == 1, "the broker must forget the last will after a farewell"


async def test_a_message_that_is_none_is_counted_logged_once_and_dropped(broker: Broker) -> None:
    before = invalid("wake")
    with logged() as lines, Mqtt(broker.port) as other:
        async with Session(broker.url) as session:
            await session.connected()
            for payload in (b"{", b"\xff", b""):
                other.publish("devices/x/wake", payload)
            wake_id = other.wake("x", "u")
            await wait_until("the wake", lambda: session.wakes() == [wake_id])
    assert invalid("wake") == before + 3
    assert [line["kind"] for line in lines if line["event"] == "invalid_message"] == ["wake"]


async def test_a_message_that_is_none_is_told_with_its_device_and_of_every_device(broker: Broker) -> None:
    one, other = unique("one"), unique("other")
    with logged() as lines, Mqtt(broker.port) as sender:
        async with Session(broker.url) as session:
            await session.connected()
            for device in (one, one, other, one):
                sender.publish(f"devices/{device}/wake", b'{"uid":"u","command":7,"timestamp":"t"}')
            wake_id = sender.wake("x", "u")
            await wait_until("the wake", lambda: session.wakes() == [wake_id])
    told = [(line["device_id"], line["reason"]) for line in lines if line["event"] == "invalid_message"]
    assert told == [
        (one, "command: Input should be a valid string"),
        (other, "command: Input should be a valid string"),
    ]


async def test_two_clients_with_one_id_are_told_what_the_matter_is(broker: Broker) -> None:
    first, second = Session(broker.url), Session(broker.url)
    second.mqtt.client_id = first.mqtt.client_id
    with logged() as lines:
        async with first, second:
            # One after the other takes the place; what is told after the first time is sure of it.
            await wait_until("both were thrown out, twice", lambda: min(map(_losses, (first, second))) >= 2, 60)
    told = [line["reason"] for line in lines if line["event"] == "mqtt_disconnected"]
    twin = f"another client with the id {first.mqtt.client_id} took its place"
    assert told
    assert all(twin in reason for reason in told)
    assert any(f"times in a row; the likely reasons: (1) {twin}" in reason for reason in told)
    assert not any("Unspecified" in reason or "mqtts" in reason for reason in told)


def _losses(session: Session) -> int:
    return session.log.count("disconnected")


async def test_a_handler_that_fails_stops_nothing(broker: Broker) -> None:
    with logged() as lines, Mqtt(broker.port) as other:
        async with Session(broker.url) as session:
            await session.connected()
            session.fault = ZeroDivisionError()
            first = other.wake("x", "u")
            await wait_until("the first", lambda: session.wakes() == [first])
            session.fault = None
            second = other.wake("x", "u")
            await wait_until("the second", lambda: session.wakes() == [first, second])
            assert session.log == ["connected"]
    assert [line["event"] for line in lines].count("message_handler_failed") == 1


async def test_a_retained_message_is_known_as_such(broker: Broker) -> None:
    with Mqtt(broker.port) as other:
        other.publish("devices/kept/wake", wake_bytes("kept"), retain=True)
        try:
            async with Session(broker.url) as session:
                await session.connected()
                await wait_until("the retained one", lambda: session.wakes() == ["kept"])
                other.wake("x", "u", id="fresh")
                await wait_until("the fresh one", lambda: session.wakes() == ["kept", "fresh"])
                assert [incoming.retained for incoming in session.came] == [True, False]
        finally:
            other.publish("devices/kept/wake", b"", retain=True)


async def test_many_messages_come_in_order_and_none_is_lost(broker: Broker) -> None:
    wanted = [f"w{number}" for number in range(1000)]
    async with Session(broker.url) as session:
        await session.connected()
        for wake_id in wanted:
            assert session.say(wake_id)
        await wait_until("all of them", lambda: len(session.wakes()) >= len(wanted))
        assert session.wakes() == wanted


async def test_many_outcomes_come_in_order_and_none_is_lost(broker: Broker) -> None:
    wanted = [f"o{number}" for number in range(500)]
    async with Session(broker.url) as session:
        await session.connected()
        for wake_id in wanted:
            assert session.mqtt.send(OUTCOME, session.owner, Outcome(id=wake_id, status="sent"))
        await wait_until("all of them", lambda: len(session.came) >= len(wanted))
        assert [incoming.message.id for incoming in session.came if isinstance(incoming.message, Outcome)] == wanted


async def test_what_is_encoded_already_arrives_as_it_is_on_every_topic(broker: Broker) -> None:
    async with Session(broker.url) as session:
        await session.connected()
        assert session.mqtt.send_raw(OUTCOME, session.owner, b'{"id":"raw","status":"acked"}')
        assert session.mqtt.send_raw(WAKE, session.owner, wake_bytes("raw"))
        await wait_until("both", lambda: len(session.came) == 2)
        assert {incoming.topic for incoming in session.came} == {WAKE, OUTCOME}
    assert session.mqtt.send_raw(OUTCOME, session.owner, b"{}") is False


async def test_a_retained_message_can_be_cleared(broker: Broker) -> None:
    async with Session(broker.url) as session:
        await session.connected()
        topic = f"bridges/{session.owner}/status"
        assert session.mqtt.send(BRIDGE_STATUS, session.owner, BridgeStatus(state="online"))
        with Mqtt(broker.port) as other:
            await asyncio.to_thread(other.message, topic)
            assert session.mqtt.clear(BRIDGE_STATUS, session.owner) is True
            await wait_until("the empty message", lambda: any(n.endswith(topic) and not p for n, p, _ in other.got))
        with Mqtt(broker.port) as newcomer:
            session.say("after")
            await asyncio.to_thread(newcomer.message, f"devices/{session.owner}/wake")
            assert newcomer.messages(topic) == []
    assert session.mqtt.clear(BRIDGE_STATUS, session.owner) is False
