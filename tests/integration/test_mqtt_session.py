"""contract.mqtt.MqttSession against real brokers, and against a fake one that says exactly what a test wants."""

import asyncio
import gc
import json
import logging
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Self

import pytest
import structlog
from structlog.testing import capture_logs

from contract import mqtt as module
from contract.clock import SystemClock
from contract.messages import BridgeStatus, Outcome, Wake
from contract.mqtt import Incoming, MqttSession, Outgoing, Subscription
from contract.settings import MqttSettings
from contract.telemetry import INVALID_MESSAGES
from contract.topics import BRIDGE_STATUS, OUTCOME, WAKE
from tests.support.processes import free_port
from tests.support.waiting import wait_until
from tests.support.world import HOST, Broker, Mqtt, unique

SUBSCRIBE, PUBLISH, PUBACK, PINGREQ, DISCONNECT, CONNECT = 8, 3, 4, 12, 14, 1
ACCEPTED = b"\x20\x02\x00\x00"


@dataclass
class Session:
    """A session that hears every wake, and what happened to it."""

    url: str
    keepalive_s: int = 15
    came: list[Incoming] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    fault: Exception | None = None

    def __post_init__(self) -> None:
        self.owner = unique("owner")
        settings = MqttSettings(url=self.url, reconnect_max_s=0.3, keepalive_s=self.keepalive_s)
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

    def __init__(self, script: Callable[["Peer"], Awaitable[None]]) -> None:
        self.peers: list[Peer] = []
        self._script = script
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"mqtt://{HOST}:{self._server.sockets[0].getsockname()[1]}"

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
        self._server = await asyncio.start_server(self._serve, HOST, 0)
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


# --- a broker with a script ---


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
