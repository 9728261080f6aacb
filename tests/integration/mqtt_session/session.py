"""A session that hears every wake, and a broker that says exactly what a test wants."""

import asyncio
import json
import logging
import ssl
import struct
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Self

import structlog
from structlog.testing import capture_logs

from contract.clock import SystemClock
from contract.messages import BridgeStatus, Wake
from contract.topics import BRIDGE_STATUS, OUTCOME, WAKE
from infra.mqtt.metrics import INVALID_MESSAGES
from infra.mqtt.session import Incoming, MqttSession, Outgoing, Subscription
from infra.settings.broker import MqttSettings
from tests.support.waiting import wait_until
from tests.support.world import HOST, unique

SUBSCRIBE, PUBLISH, PUBACK, PINGREQ, DISCONNECT, CONNECT = 8, 3, 4, 12, 14, 1
ACCEPTED = b"\x20\x02\x00\x00"
WAY = {"fast": True}


@dataclass
class Session:
    """A session that hears every wake, and what happened to it."""

    url: str
    keepalive_s: int = 600
    """What hangs is not mended by a ping that is missed, within the patience of a test."""
    more: dict[str, Any] = field(default_factory=dict)
    came: list[Incoming] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    fault: Exception | None = None

    def __post_init__(self) -> None:
        self.owner = unique("owner")
        more = {"reconnect_max_s": 0.3} | WAY | self.more
        settings = MqttSettings(url=self.url, keepalive_s=self.keepalive_s, **more)
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
