"""infra.mqtt.session.MqttSession against a broker that says exactly what a test wants."""

import asyncio
import gc
import logging
import socket
import time
from typing import Any

import pytest

from contract.errors import MessageError
from contract.messages import Outcome
from contract.topics import OUTCOME, WAKE
from infra.mqtt import pacing
from infra.mqtt import session as module
from infra.mqtt import stream_client as fast_mqtt
from infra.mqtt.metrics import MQTT_UNSENT
from infra.mqtt.stream_client import StreamClient
from tests.integration.mqtt_session.session import (
    DISCONNECT,
    PINGREQ,
    PUBLISH,
    FakeBroker,
    Peer,
    Session,
    invalid,
    logged,
    wake_bytes,
    welcome,
)
from tests.support.ports import free_port
from tests.support.waiting import wait_until
from tests.support.world import HOST


async def test_the_setting_and_the_version_of_paho_say_which_way_is_taken(
    way: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with FakeBroker(welcome) as broker:
        async with Session(broker.url) as session:
            await session.connected()
            assert isinstance(session.mqtt._client, StreamClient) is way
        monkeypatch.setattr(module, "why_not", lambda: "of the test")
        with logged() as lines:
            async with Session(broker.url) as session:
                await session.connected()
                assert not isinstance(session.mqtt._client, StreamClient)
                broker.peers[-1].writer.transport.abort()
                await session.connected(2)
        reasons = [line["reason"] for line in lines if line["event"] == "mqtt_fast_path_off"]
        assert reasons == (["of the test"] if way else [])


async def test_a_refused_subscription_is_named_and_never_counts_as_connected() -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.grant(1, 0x80)

    async with FakeBroker(script) as broker, Session(broker.url) as session:
        await session.problem(f"refused the subscription to sarvis/v1/devices/{session.owner}/outcome")
        assert "+/wake" not in (session.mqtt.problem or "")
        await wait_until("it tries again", lambda: len(broker.peers) > 1)
        assert session.log == []
        assert session.say("x") is False


async def test_too_few_answers_to_a_subscription_never_count_as_connected() -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.grant(1)

    async with FakeBroker(script) as broker, Session(broker.url) as session:
        await session.problem("refused the subscription")
        assert session.log == []


@pytest.mark.parametrize(("code", "words"), [(2, "dentifier"), (3, "unavailable"), (4, "user name"), (5, "authori")])
async def test_a_refused_connection_says_why(code: int, words: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.packet()
        peer.writer.write(b"\x20\x02\x00" + bytes((code,)))

    async with FakeBroker(script) as broker, Session(broker.url) as session:
        await session.problem("refused the connection")
        assert words in (session.mqtt.problem or "")
        await wait_until("it tries again", lambda: len(broker.peers) > 1)
        assert session.log == []


async def test_a_broker_that_never_answers_is_given_up_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "ANSWER_TIMEOUT_S", 0.2)

    async def mute(peer: Peer) -> None:
        await peer.packet()

    async with FakeBroker(mute) as broker, Session(broker.url) as session:
        await session.problem("the broker did not answer")
        await wait_until("it tries again", lambda: len(broker.peers) > 1)
        await wait_until("the first socket is closed", lambda: broker.peers[0].gone)
        assert session.log == []


async def test_a_broker_that_stops_answering_pings_is_left() -> None:
    async with FakeBroker(welcome) as broker, Session(broker.url, keepalive_s=2) as session:
        await session.connected()
        await session.connected(2)
        assert PINGREQ in [kind for kind, _ in broker.peers[0].heard]


async def test_an_invalid_message_is_acknowledged_so_that_it_does_not_come_again() -> None:
    topics: tuple[str | bytes, ...] = (
        "sarvis/v1/devices/x/wake",
        "sarvis/v1/devices/bad id/wake",
        b"sarvis/v1/devices/\xff/wake",
        "elsewhere",
    )

    async def script(peer: Peer) -> None:
        await peer.welcome()
        for mid, topic in enumerate(topics, 1):
            peer.publish(topic, b"{", mid)
        peer.publish("sarvis/v1/devices/x/wake", wake_bytes("good"), 9)

    async with FakeBroker(script) as broker, Session(broker.url) as session:
        await wait_until("the good one", lambda: session.wakes() == ["good"])
        await wait_until("all are acknowledged", lambda: broker.peers[0].acknowledged() == [1, 2, 3, 4, 9])
        assert session.log == ["connected"]


async def test_a_message_is_acknowledged_only_when_its_handler_says_so() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        peer.publish("sarvis/v1/devices/x/wake", wake_bytes("a"), 7)
        peer.publish("sarvis/v1/devices/x/wake", wake_bytes("b"), 8)

    async with FakeBroker(script) as broker, Session(broker.url) as session:
        session.fault = ZeroDivisionError()
        await wait_until("both", lambda: session.wakes() == ["a", "b"])
        assert broker.peers[0].acknowledged() == []
        session.came[1].ack()
        await wait_until("the second's acknowledgement", lambda: broker.peers[0].acknowledged() == [8])


async def test_each_topic_is_sent_with_the_qos_of_the_table() -> None:
    async with FakeBroker(welcome) as broker, Session(broker.url) as session:
        await session.connected()
        session.mqtt.send_raw(OUTCOME, "x", b"{}")
        session.mqtt.send_raw(WAKE, "x", b"{}")
        peer = broker.peers[0]
        await wait_until("both", lambda: [kind for kind, _ in peer.heard].count(PUBLISH) == 2)
        with_id = {
            topic: len(body) - 2 - len(topic) - len(b"{}")
            for kind, body in peer.heard
            if kind == PUBLISH and (topic := body[2 : 2 + int.from_bytes(body[:2])])
        }
        assert with_id == {b"sarvis/v1/devices/x/outcome": 0, b"sarvis/v1/devices/x/wake": 2}


async def test_a_fault_in_a_callback_is_no_fault_of_the_message() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        for mid in range(1, 4):
            peer.publish("sarvis/v1/devices/x/wake", wake_bytes(str(mid)), mid)

    faults = [ZeroDivisionError()]

    def admit(*_: object) -> bool:
        if faults:
            raise faults.pop()
        return True

    before = invalid("wake")
    async with FakeBroker(script) as broker, Session(broker.url) as session:
        session.mqtt.admit = admit
        session.fault = MessageError("of the handler")
        await wait_until("those that were admitted", lambda: session.wakes() == ["2", "3"])
        assert session.log == ["connected"]
        assert broker.peers[0].acknowledged() == []
    assert invalid("wake") == before


async def test_only_so_many_topics_are_remembered_and_only_valid_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PLACES", 2)
    owners = ["a", "b", "bad id", "c", "a"]

    async def script(peer: Peer) -> None:
        await peer.welcome()
        for mid, owner in enumerate(owners, 1):
            peer.publish(f"sarvis/v1/devices/{owner}/wake", wake_bytes(str(mid)), mid)

    async with FakeBroker(script) as broker, Session(broker.url) as session:
        await wait_until("all that are valid", lambda: session.wakes() == ["1", "2", "4", "5"])
        assert [incoming.owner for incoming in session.came] == ["a", "b", "c", "a"]
        assert {name.split(b"/")[3] for name in session.mqtt._places} == {b"c", b"a"}


@pytest.mark.parametrize("way", [True], indirect=True)
async def test_what_a_broker_does_not_take_is_refused_and_counted_and_nothing_is_torn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fast_mqtt, "MAX_UNSENT_BYTES", 100_000)
    read_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.welcome()
        await read_on.wait()

    async with FakeBroker(script) as broker, Session(broker.url) as session:
        await session.connected()
        before = MQTT_UNSENT._value.get()
        sent = 0
        while session.mqtt.send_raw(OUTCOME, session.owner, b"%06d" % sent + b"x" * 10_000):
            sent += 1
            await asyncio.sleep(0)
            assert sent < 10_000, "this test must fill the buffers"
        assert MQTT_UNSENT._value.get() == before + 1
        read_on.set()
        peer = broker.peers[0]
        await wait_until("all came", lambda: [kind for kind, _ in peer.heard].count(PUBLISH) == sent)
        numbers = [body[-10_006:-10_000] for kind, body in peer.heard if kind == PUBLISH]
        assert numbers == [b"%06d" % number for number in range(sent)]
        assert session.mqtt.send(OUTCOME, session.owner, Outcome(id="again", status="sent"))
        assert session.log == ["connected"]


async def test_an_acknowledgement_after_the_connection_is_gone_does_nothing() -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        peer.publish("sarvis/v1/devices/x/wake", wake_bytes("a"), 7)

    async with FakeBroker(script) as broker, Session(broker.url) as session:
        session.fault = ZeroDivisionError()
        await wait_until("it came", lambda: session.wakes() == ["a"])
        broker.peers[0].writer.transport.abort()
        await session.connected(2)
        session.came[0].ack()
        await wait_until("it came again", lambda: session.wakes() == ["a", "a"])
        assert session.say("x") is True
        await wait_until("the wake", lambda: PUBLISH in [kind for kind, _ in broker.peers[1].heard])
        assert broker.peers[1].acknowledged() == []


GARBAGE = {
    "not MQTT at all": b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\n\r\n" + b"<p>no</p>" * 10,
    "an endless length": b"\x30\xff\xff\xff\xff\xff\xff",
    "a topic longer than its packet": b"\x30\x04\xff\xffab",
    "a SUBACK without a body": b"\x90\x00",
    "a PUBACK of one byte": b"\x40\x01\x00",
    "a second CONNACK of one byte": b"\x20\x01\x00",
}


@pytest.mark.parametrize("garbage", list(GARBAGE))
async def test_a_broker_that_sends_nonsense_is_left_and_tried_again(
    garbage: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def script(peer: Peer) -> None:
        await peer.welcome()
        await asyncio.sleep(0.05)
        peer.writer.write(GARBAGE[garbage])

    async with FakeBroker(script) as broker, Session(broker.url):
        try:
            await wait_until("it connects again", lambda: len(broker.peers) > 1)
        finally:
            unhandled = [record for record in caplog.records if record.name == "asyncio"]
            caplog.clear()
        assert unhandled == []


async def test_a_host_name_that_cannot_be_one_is_a_problem_and_no_end() -> None:
    async with Session(f"mqtt://{'a' * 70}.example:1883") as session:
        await wait_until(
            "a problem, or its end", lambda: session.task.done() or session.mqtt.problem != "not connected yet"
        )
        assert not session.task.done(), repr(session.task.exception())


async def test_a_session_that_is_cancelled_while_it_connects_leaves_no_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolve = socket.getaddrinfo

    def slow(*arguments: Any, **more: Any) -> Any:
        time.sleep(0.3)
        return resolve(*arguments, **more)

    async with FakeBroker(welcome) as broker:
        monkeypatch.setattr(socket, "getaddrinfo", slow)
        session = Session(broker.url)
        async with session:
            await asyncio.sleep(0.1)
        await asyncio.sleep(0.5)
        gc.collect()
        assert session.log == []
        await wait_until("no connection is left", lambda: all(peer.gone for peer in broker.peers))


async def test_a_farewell_leaves_nothing_behind_that_python_complains_about(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        async with FakeBroker(welcome) as broker:
            async with Session(broker.url) as session:
                await session.connected()
            await wait_until("the broker heard it", lambda: broker.peers[0].gone)
            assert [kind for kind, _ in broker.peers[0].heard][-2:] == [PUBLISH, DISCONNECT]
        del session
        gc.collect()
        await asyncio.sleep(0)
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


async def test_the_text_of_a_lost_connection_is_there_when_the_owner_is_told() -> None:
    told: list[str | None] = []

    async with FakeBroker(welcome) as broker, Session(broker.url) as session:
        session.mqtt.on_disconnected = lambda: told.append(session.mqtt.problem)
        await session.connected()
        broker.peers[0].writer.transport.abort()
        await wait_until("told", lambda: told)
        assert told[0]


async def test_nobody_answers_at_a_closed_port_and_the_problem_says_so() -> None:
    async with Session(f"mqtt://{HOST}:{free_port()}") as session:
        await session.problem("refused")
        assert session.mqtt.send(OUTCOME, session.owner, Outcome(id="x", status="sent")) is False
