"""Whether a broker counts messages in flight to a client that also publishes: Mosquitto 2.0 may lose count."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from amqtt.mqtt.connect import ConnectPacket, ConnectPayload, ConnectVariableHeader
from amqtt.mqtt.publish import PublishPacket
from amqtt.mqtt.subscribe import SubscribePacket

from broker.check.findings import WINDOW, Finding
from broker.check.peer import WITHIN_S, ProbeError
from broker.check.target import Credential, Target

MESSAGES = 60_000
AT_ONCE = 4
STALLED_S = 1.0
CHUNK = 65_536
_CLEAN, _WITH_USER, _WITH_PASSWORD = 0x02, 0x80, 0x40
_CONNACK, _SUBACK, _PUBLISH = 2, 9, 3


def window(target: Target) -> Iterator[Finding]:
    """A bridge that acknowledges and answers in one write, as ours does, while more messages are on their way."""
    bridge_id = target.client_id(target.bridge, "bridge")
    device_id = target.client_id(target.device.credential, "device")
    with (
        _Wire.connected(target, target.bridge, bridge_id) as bridge,
        _Wire.connected(target, target.device.credential, device_id) as device,
    ):
        bridge.send(SubscribePacket.build([(target.wakes, 1)], 1))
        bridge.expect(_SUBACK)
        heard = _exchange(target, bridge, device)
    seen = f"{heard:,} messages, none waited" if heard == MESSAGES else f"after {heard:,} messages one waited"
    yield Finding(WINDOW, heard == MESSAGES, seen)


def _exchange(target: Target, bridge: "_Wire", device: "_Wire") -> int:
    answer = PublishPacket.build(target.outcome(), b"x" * 70, None, False, 0, False).to_bytes()
    sent = heard = 0
    while heard < MESSAGES:
        while sent < min(heard + AT_ONCE, MESSAGES):
            sent += 1
            packet_id = sent % 60_000 + 1
            device.send(PublishPacket.build(target.wake(), b"x" * 100, packet_id, False, 1, False))
        try:
            packets = bridge.packets()
        except TimeoutError:
            break
        acknowledged = [_puback(body) + answer for head, body in packets if head >> 4 == _PUBLISH]
        heard += len(acknowledged)
        bridge.send(*acknowledged)
        device.ignore()
    return heard


def _puback(body: bytes) -> bytes:
    name = 2 + int.from_bytes(body[:2])
    return b"\x40\x02" + body[name : name + 2]


class _Wire:
    """A bare socket, because a client library sends one packet at a time."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._unread = b""

    @classmethod
    @contextmanager
    def connected(cls, target: Target, credential: Credential, client_id: str) -> Iterator["_Wire"]:
        """Connected until the end of the block; raises ProbeError."""
        context = credential.context or target.plain
        node = target.next_node()
        with ExitStack() as stack:
            sock = stack.enter_context(socket.create_connection(node, timeout=WITHIN_S))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if context is not None:
                sock = stack.enter_context(context.wrap_socket(sock, server_hostname=node[0]))
            wire = cls(sock)
            user, password = credential.username, credential.password
            flags = _CLEAN | (_WITH_USER if user else 0) | (_WITH_PASSWORD if password else 0)
            payload = ConnectPayload(client_id, None, None, user, password)
            wire.send(ConnectPacket(variable_header=ConnectVariableHeader(flags, 60), payload=payload))
            wire.expect(_CONNACK)
            sock.settimeout(STALLED_S)
            yield wire

    def send(self, *packets: Any) -> None:
        """Send everything in one write."""
        self._sock.sendall(b"".join(each if isinstance(each, bytes) else each.to_bytes() for each in packets))

    def packets(self) -> list[tuple[int, bytes]]:
        """First byte and body of the packets that can be read now; raises TimeoutError if none come."""
        data = self._sock.recv(CHUNK)
        if not data:
            raise ProbeError("the broker closed the connection between the messages")
        self._unread += data
        found = []
        while (end := _end(self._unread)) is not None:
            found.append((self._unread[0], self._unread[end[0] : end[1]]))
            self._unread = self._unread[end[1] :]
        return found

    def expect(self, kind: int) -> None:
        """Wait for a packet of this type; raises ProbeError."""
        try:
            while all(head >> 4 != kind for head, _ in self.packets()):
                pass
        except TimeoutError:
            raise ProbeError(f"no packet of type {kind} within {WITHIN_S:g} s") from None

    def ignore(self) -> None:
        """Read and drop what is available."""
        self._sock.setblocking(False)
        with suppress(BlockingIOError, ssl.SSLWantReadError):
            while self._sock.recv(CHUNK):
                pass
        self._sock.settimeout(STALLED_S)


def _end(data: bytes) -> tuple[int, int] | None:
    """Where the body of the first packet starts and ends; None if it is incomplete."""
    length = 0
    for place, byte in enumerate(data[1:5]):
        length |= (byte & 0x7F) << 7 * place
        if byte < 0x80:  # noqa: PLR2004  # the continuation bit
            start = 2 + place
            return (start, start + length) if len(data) >= start + length else None
    return None
