"""contract.mqtt.MqttSession against real brokers, and against a fake one that says exactly what a test wants."""

import asyncio
import base64
import gc
import hashlib
import json
import logging
import socket
import ssl
import struct
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

import pytest
import structlog
from structlog.testing import capture_logs

from contract import fast_mqtt, paho_loop
from contract import mqtt as module
from contract.clock import SystemClock
from contract.errors import MessageError, SettingsError
from contract.fast_mqtt import FastClient
from contract.messages import BridgeStatus, Outcome, Wake
from contract.mqtt import Incoming, MqttSession, Outgoing, Subscription, check
from contract.sections.broker import MqttSettings
from contract.telemetry import INVALID_MESSAGES, MQTT_UNSENT
from contract.tls import server_context
from contract.topics import BRIDGE_STATUS, OUTCOME, WAKE
from tests.support.certificates import Authority, Certificate
from tests.support.ports import free_port
from tests.support.waiting import wait_until
from tests.support.world import HOST, Broker, Mosquitto, Mqtt, unique

SUBSCRIBE, PUBLISH, PUBACK, PINGREQ, DISCONNECT, CONNECT = 8, 3, 4, 12, 14, 1
ACCEPTED = b"\x20\x02\x00\x00"
WAY = {"fast": True}


@pytest.fixture(autouse=True, params=[True, False], ids=["fast", "paho_alone"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Every test runs on both ways of MQTT."""
    fast: bool = request.param
    monkeypatch.setitem(WAY, "fast", fast)
    return fast


@dataclass
class Session:
    """A session that hears every wake, and what happened to it."""

    url: str
    keepalive_s: int = 15
    more: dict[str, Any] = field(default_factory=dict)
    came: list[Incoming] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    fault: Exception | None = None

    def __post_init__(self) -> None:
        self.owner = unique("owner")
        more = WAY | self.more
        settings = MqttSettings(url=self.url, reconnect_max_s=0.3, keepalive_s=self.keepalive_s, **more)
        self.mqtt = MqttSession(
            settings,
            f"sarvis-{self.owner}",
            SystemClock(),
            subscriptions=[Subscription(WAKE), Subscription(OUTCOME, self.owner)],
            on_message=self._hear,
            last_will=lambda: Outgoing(BRIDGE_STATUS, self.owner, BridgeStatus(state="offline")),
            on_connected=lambda: self.log.append("connected"),
            on_disconnected=lambda: self.log.append("disconnected"),
        )

    def _hear(self, incoming: Incoming) -> None:
        self.came.append(incoming)
        if self.fault is not None:
            raise self.fault
        incoming.ack()

    async def __aenter__(self) -> Self:
        self.task = asyncio.create_task(self.mqtt.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task

    async def connected(self, nth: int = 1) -> None:
        await wait_until(
            f"connected {nth} times; {self.log}, {self.mqtt.problem}",
            lambda: self.mqtt.connected and self.log.count("connected") >= nth,
        )

    async def problem(self, words: str) -> None:
        try:
            await wait_until(words, lambda: words in (self.mqtt.problem or ""))
        except AssertionError as error:
            raise AssertionError(f"{error}; the problem is {self.mqtt.problem!r}") from None

    def wakes(self) -> list[str]:
        return [incoming.message.id for incoming in self.came if isinstance(incoming.message, Wake)]

    def say(self, wake_id: str) -> bool:
        wake = Wake(uid="u", command="c", timestamp="t", id=wake_id)
        return self.mqtt.send(WAKE, self.owner, wake)


class FakeBroker:
    """Speaks MQTT one packet at a time, as its script says; `heard` are the types of the packets that came."""

    def __init__(self, script: Callable[["Peer"], Awaitable[None]], tls: ssl.SSLContext | None = None) -> None:
        self.peers: list[Peer] = []
        self._script = script
        self._tls = tls
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        assert self._server is not None
        scheme = "mqtts" if self._tls else "mqtt"
        return f"{scheme}://{HOST}:{self._server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        self.peers.append(peer)
        try:
            await self._script(peer)
            while await peer.packet():
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            peer.gone = True
            writer.close()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, HOST, 0, ssl=self._tls)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for peer in self.peers:
            peer.writer.transport.abort()
        await wait_until("the peers are gone", lambda: all(peer.gone for peer in self.peers))
        await self._server.wait_closed()


class Peer:
    """One connection of the fake broker."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.heard: list[tuple[int, bytes]] = []
        self.gone = False
        self._reader = reader

    async def packet(self) -> tuple[int, bytes]:
        """The next packet's type and body; answers pings."""
        first = (await self._reader.readexactly(1))[0]
        length = shift = 0
        while True:
            byte = (await self._reader.readexactly(1))[0]
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        packet = first >> 4, await self._reader.readexactly(length)
        self.heard.append(packet)
        return packet

    async def accept(self) -> None:
        kind, _ = await self.packet()
        assert kind == CONNECT
        self.writer.write(ACCEPTED)

    async def grant(self, *codes: int) -> None:
        kind, body = await self.packet()
        assert kind == SUBSCRIBE
        self.writer.write(bytes((0x90, 2 + len(codes))) + body[:2] + bytes(codes))

    async def welcome(self) -> None:
        await self.accept()
        await self.grant(1, 0)

    def publish(self, topic: str | bytes, payload: bytes, mid: int) -> None:
        name = topic.encode() if isinstance(topic, str) else topic
        body = struct.pack("!H", len(name)) + name + struct.pack("!H", mid) + payload
        self.writer.write(b"\x32" + length_of(body) + body)

    def acknowledged(self) -> list[int]:
        return [struct.unpack("!H", body)[0] for kind, body in self.heard if kind == PUBACK]


def length_of(body: bytes) -> bytes:
    rest, encoded = len(body), bytearray()
    while True:
        rest, digit = divmod(rest, 128)
        encoded.append(digit | (0x80 if rest else 0))
        if not rest:
            return bytes(encoded)


def wake_bytes(wake_id: str) -> bytes:
    return json.dumps({"uid": "u", "command": "c", "timestamp": "t", "id": wake_id}).encode()


@contextmanager
def logged() -> Iterator[list[MutableMapping[str, Any]]]:
    """What is logged meanwhile; tests/conftest.py lets only the worst through."""
    quiet = structlog.get_config()["wrapper_class"]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    try:
        with capture_logs() as lines:
            yield lines
    finally:
        structlog.configure(wrapper_class=quiet)


def invalid(kind: str) -> float:
    value: float = INVALID_MESSAGES.labels(kind)._value.get()
    return value


async def welcome(peer: Peer) -> None:
    await peer.welcome()


# --- real brokers ---


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


# --- a broker with a script ---


async def test_the_setting_and_the_version_of_paho_say_which_way_is_taken(
    way: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with FakeBroker(welcome) as broker:
        async with Session(broker.url) as session:
            await session.connected()
            assert isinstance(session.mqtt._client, FastClient) is way
        monkeypatch.setattr(module, "why_not", lambda: "of the test")
        with logged() as lines:
            async with Session(broker.url) as session:
                await session.connected()
                assert not isinstance(session.mqtt._client, FastClient)
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
    monkeypatch.setattr(module, "ANSWER_TIMEOUT_S", 0.2)

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

    async with FakeBroker(script) as broker, Session(broker.url) as session:
        await session.connected()
        try:
            await wait_until("it connects again", lambda: len(broker.peers) > 1, 3.0)
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
        assert [peer for peer in broker.peers if not peer.gone] == []


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


# --- TLS and credentials ---


class SecureMosquitto(Mosquitto):
    """Debian's mosquitto with TLS, on a port of its own; `lines` are more of its configuration."""

    def __init__(self, folder: Path, server: Certificate, *lines: str) -> None:
        super().__init__(folder)
        # As root it would give its rights up before it reads the test's files.
        config = ["user root", "persistence false", f"listener {self.port} {HOST}"]
        config += [f"certfile {server.cert}", f"keyfile {server.key}", *(lines or ["allow_anonymous true"])]
        self._config.write_text("\n".join(config) + "\n")

    @property
    def url(self) -> str:
        return f"mqtts://{HOST}:{self.port}"


def password_file(path: Path, **passwords: str) -> Path:
    """As mosquitto_passwd writes it."""
    lines = []
    for name, password in passwords.items():
        salt = b"salt of test"
        digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, 101)
        lines.append(f"{name}:$7$101${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}\n")
    path.write_text("".join(lines))
    return path


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ours"), "ours")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("other"), "other")


@pytest.fixture(scope="module")
def server(ours: Authority) -> Certificate:
    return ours.issue("server", HOST)


def trusting(authority: Authority, client: Certificate | None = None) -> dict[str, Any]:
    shown = {} if client is None else {"cert_file": client.cert, "key_file": client.key}
    return {"ca_file": authority.ca_file, **shown}


async def hears_itself(session: Session) -> None:
    wake_id = unique("wake")
    assert session.say(wake_id)
    await wait_until("its own wake", lambda: wake_id in session.wakes())


async def test_over_tls_many_messages_come_in_order_and_none_is_lost(
    tmp_path: Path, ours: Authority, server: Certificate
) -> None:
    wanted = [f"w{number}" for number in range(1000)]
    with SecureMosquitto(tmp_path, server) as broker:
        async with Session(broker.url, more=trusting(ours)) as session:
            await session.connected()
            for wake_id in wanted:
                assert session.say(wake_id)
            await wait_until("all of them", lambda: len(session.wakes()) >= len(wanted))
            assert session.wakes() == wanted
            client = session.mqtt._client
            assert client is not None
            sock = client.socket()
            assert isinstance(sock, ssl.SSLSocket)
            assert sock.version() == "TLSv1.3"


async def test_over_tls_it_says_farewell_when_it_is_cancelled(
    tmp_path: Path, ours: Authority, server: Certificate
) -> None:
    with SecureMosquitto(tmp_path, server) as broker:
        async with (
            Session(broker.url, more=trusting(ours)) as watching,
            Session(broker.url, more=trusting(ours)) as leaving,
        ):
            watching.mqtt.subscriptions = [Subscription(BRIDGE_STATUS)]
            await watching.connected()
            await leaving.connected()
            leaving.task.cancel()
            await wait_until("the farewell", lambda: leaving.owner in [told.owner for told in watching.came])


async def test_many_messages_in_one_record_all_come_without_further_traffic(
    ours: Authority, server: Certificate
) -> None:
    """TLS decrypts a record at once: what paho leaves of it makes the socket not readable again."""
    wanted = [f"w{number}" for number in range(150)]

    async def script(peer: Peer) -> None:
        await peer.welcome()
        burst = b""
        for mid, wake_id in enumerate(wanted, 1):
            name, payload = b"sarvis/v1/devices/x/wake", wake_bytes(wake_id)
            body = struct.pack("!H", len(name)) + name + struct.pack("!H", mid) + payload
            burst += b"\x32" + length_of(body) + body
        assert len(burst) < 16 * 1024, "more than one record"
        peer.writer.write(burst)

    tls = server_context(server.cert, server.key, who="broker")
    async with FakeBroker(script, tls) as broker, Session(broker.url, more=trusting(ours)) as session:
        await wait_until("all of them", lambda: len(session.wakes()) >= len(wanted), 5.0)
        assert session.wakes() == wanted
        await wait_until("all acknowledgements", lambda: len(broker.peers[0].acknowledged()) == len(wanted), 5.0)


async def test_messages_larger_than_a_record_and_more_than_one_turn_of_the_loop_all_come(
    ours: Authority, server: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paho_loop, "READS_AT_ONCE", 2)
    wanted = [f"{number}-{'x' * 50}" for number in range(500)]

    async def script(peer: Peer) -> None:
        await peer.welcome()
        for mid, wake_id in enumerate(wanted, 1):
            peer.publish("sarvis/v1/devices/x/wake", wake_bytes(wake_id), mid)

    tls = server_context(server.cert, server.key, who="broker")
    async with FakeBroker(script, tls) as broker, Session(broker.url, more=trusting(ours)) as session:
        await wait_until("all of them", lambda: len(session.wakes()) >= len(wanted), 5.0)
        assert session.wakes() == wanted


async def test_over_tls_a_broker_that_reads_late_gets_everything(ours: Authority, server: Certificate) -> None:
    read_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        peer.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        await peer.welcome()
        await read_on.wait()

    tls = server_context(server.cert, server.key, who="broker")
    async with FakeBroker(script, tls) as broker, Session(broker.url, more=trusting(ours)) as session:
        await session.connected()
        client = session.mqtt._client
        assert client is not None
        sock = client.socket()
        assert isinstance(sock, ssl.SSLSocket)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        for number in range(900):
            wake = Wake(uid="u", command="x" * 1000, timestamp="t", id=f"w{number}")
            assert session.mqtt.send(WAKE, session.owner, wake)
        await wait_until("the buffers are full", client.want_write)
        await asyncio.sleep(0.2)
        assert client.want_write(), "this test must fill the buffers"
        read_on.set()
        peer = broker.peers[0]
        await wait_until("all came", lambda: [kind for kind, _ in peer.heard].count(PUBLISH) == 900)
        assert session.log == ["connected"]


async def test_a_broker_of_an_unknown_authority_is_refused_with_the_setting(
    tmp_path: Path, ours: Authority, other: Authority, server: Certificate
) -> None:
    with SecureMosquitto(tmp_path, server) as broker:
        for more in (trusting(other), {}):
            async with Session(broker.url, more=more) as session:
                await session.problem("unknown authority")
                assert "mqtt.ca_file" in (session.mqtt.problem or "")
        async with Session(broker.url, more=trusting(ours)) as session:
            await session.connected()


async def test_a_broker_of_another_name_is_refused_with_the_setting(tmp_path: Path, ours: Authority) -> None:
    elsewhere = ours.issue("elsewhere", "broker.example", "localhost", "127.0.0.2")
    with SecureMosquitto(tmp_path, elsewhere) as broker:
        async with Session(broker.url, more=trusting(ours)) as session:
            await session.problem(f"not made for {HOST}")
            assert "mqtt.url" in (session.mqtt.problem or "")
        async with Session(broker.url.replace(HOST, "localhost"), more=trusting(ours)) as session:
            await session.connected()


async def test_a_broker_whose_certificate_is_out_of_date_is_refused(tmp_path: Path, ours: Authority) -> None:
    old = ours.issue("old", HOST, lasts=timedelta(days=-1))
    with SecureMosquitto(tmp_path, old) as broker:
        async with Session(broker.url, more=trusting(ours)) as session:
            await session.problem("out of date")


async def test_a_client_certificate_is_shown_and_a_missing_or_foreign_one_is_a_problem_with_the_setting(
    tmp_path: Path, ours: Authority, other: Authority, server: Certificate
) -> None:
    wants = (f"cafile {ours.ca_file}", "require_certificate true", "allow_anonymous true")
    with SecureMosquitto(tmp_path, server, *wants) as broker:
        async with Session(broker.url, more=trusting(ours, ours.issue("client"))) as session:
            await session.connected()
            await hears_itself(session)
        for more in (trusting(ours), trusting(ours, other.issue("stranger"))):
            async with Session(broker.url, more=more) as session:
                await session.problem("mqtt.cert_file")
                assert session.log == []


async def test_the_embedded_way_of_refusing_a_client_certificate_names_the_setting(
    ours: Authority, server: Certificate
) -> None:
    """asyncio closes without an alert."""
    tls = server_context(server.cert, server.key, ours.ca_file, who="broker")
    async with FakeBroker(welcome, tls) as broker:
        async with Session(broker.url, more=trusting(ours)) as session:
            await session.problem("mqtt.cert_file and mqtt.key_file")
        async with Session(broker.url, more=trusting(ours, ours.issue("client"))) as session:
            await session.connected()


async def test_a_client_certificate_renewed_on_disk_is_used_at_the_next_connection(
    tmp_path: Path, ours: Authority, other: Authority, server: Certificate
) -> None:
    wants = (f"cafile {ours.ca_file}", "require_certificate true", "allow_anonymous true")
    mine = Certificate(tmp_path / "mine.crt", tmp_path / "mine.key", 0)

    def take(issued: Certificate) -> None:
        mine.key.write_bytes(issued.key.read_bytes())
        mine.cert.write_bytes(issued.cert.read_bytes())

    take(other.issue("stranger"))
    with SecureMosquitto(tmp_path, server, *wants) as broker:
        async with Session(broker.url, more=trusting(ours, mine)) as session:
            await session.problem("mqtt.cert_file")
            take(ours.issue("client"))
            await session.connected()


async def test_a_file_that_is_gone_at_a_reconnect_is_a_problem_and_no_end(
    tmp_path: Path, ours: Authority, server: Certificate
) -> None:
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes(ours.ca_file.read_bytes())
    with SecureMosquitto(tmp_path, server) as broker:
        async with Session(broker.url, more={"ca_file": ca_file}) as session:
            check(session.mqtt.settings)
            await session.connected()
            ca_file.unlink()
            await asyncio.to_thread(broker.kill)
            await session.problem("setting mqtt.ca_file")
            assert str(ca_file) in (session.mqtt.problem or "")
            assert not session.task.done()
            with pytest.raises(SettingsError, match=r"mqtt\.ca_file"):
                check(session.mqtt.settings)
            await asyncio.to_thread(broker.start)
            ca_file.write_bytes(ours.ca_file.read_bytes())
            await session.connected(2)


async def test_a_password_in_a_file_is_read_anew_and_never_told(
    tmp_path: Path, ours: Authority, server: Certificate
) -> None:
    secret = tmp_path / "password"
    secret.write_text("wrong-one\n")
    known = password_file(tmp_path / "passwords", alice="right-one")
    wants = ("allow_anonymous false", f"password_file {known}")
    more = trusting(ours) | {"username": "alice", "password_file": secret}
    with logged() as lines, SecureMosquitto(tmp_path, server, *wants) as broker:
        async with Session(broker.url, more=more) as session:
            await session.problem("the broker refused the connection: Not authorized")
            assert "check mqtt.username and mqtt.password_file" in (session.mqtt.problem or "")
            secret.write_text("right-one\n")
            await session.connected()
        async with Session(broker.url, more=trusting(ours)) as session:
            await session.problem("set mqtt.username and mqtt.password_file")
        async with Session(broker.url, more=trusting(ours) | {"username": "alice", "password": "nope-one"}) as session:
            await session.problem("check mqtt.username and mqtt.password")
    assert lines
    assert not [line for line in lines if "-one" in str(line)]


def test_what_a_connection_needs_is_checked_before_it_runs(tmp_path: Path, ours: Authority) -> None:
    secret = tmp_path / "password"
    settings = MqttSettings(username="alice", password_file=secret)
    with pytest.raises(SettingsError, match=r"mqtt\.password_file.*No such file"):
        check(settings)
    secret.write_text("s3cret")
    check(settings)
    with pytest.raises(SettingsError, match=r"mqtt\.username"):
        check(MqttSettings(password_file=secret))
    client = ours.issue("client")
    good = {"url": "mqtts://broker", **trusting(ours, client)}
    check(MqttSettings(**good))
    for setting in ("ca_file", "cert_file", "key_file"):
        with pytest.raises(SettingsError, match=rf"mqtt\.{setting}.*nowhere"):
            check(MqttSettings(**(good | {setting: tmp_path / "nowhere"})))


async def test_tls_to_a_plain_port_and_the_other_way_round_name_the_url(
    broker: Broker, tmp_path: Path, ours: Authority, server: Certificate
) -> None:
    async with Session(broker.url.replace("mqtt:", "mqtts:"), more=trusting(ours)) as session:
        await session.problem("mqtt.url")
    with SecureMosquitto(tmp_path, server) as secure:
        async with Session(secure.url.replace("mqtts:", "mqtt:")) as session:
            await session.problem("write mqtts:// in mqtt.url")


async def test_a_failed_handshake_leaves_no_socket_behind(
    ours: Authority, other: Authority, server: Certificate
) -> None:
    tls = server_context(server.cert, server.key, who="broker")
    async with FakeBroker(welcome, tls) as broker:
        async with Session(broker.url, more=trusting(other)) as session:
            await session.problem("unknown authority")
        del session
        gc.collect()  # Python would complain about a socket that nobody closed
        async with Session(broker.url, more=trusting(ours)) as session:
            await session.connected()


async def test_a_name_that_resolves_but_is_no_broker_of_ours_gets_no_password(
    tmp_path: Path, ours: Authority, other: Authority
) -> None:
    secret = tmp_path / "password"
    secret.write_text("s3cret")
    fake = other.issue("fake", HOST)
    tls = server_context(fake.cert, fake.key, who="broker")
    async with FakeBroker(welcome, tls) as broker:
        more = trusting(ours) | {"username": "alice", "password_file": secret}
        async with Session(broker.url, more=more) as session:
            await session.problem("unknown authority")
        assert broker.peers == []
        async with Session(broker.url, more=more | trusting(other)) as session:
            await session.connected()
        assert b"s3cret" in broker.peers[0].heard[0][1]
