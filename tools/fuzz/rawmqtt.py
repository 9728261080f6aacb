"""MQTT 3.1.1 packets of the client's side, right or wrong, and a client that says any bytes."""

import contextlib
import socket
import struct
from types import TracebackType
from typing import Self

from tests.support.waiting import PATIENCE_S
from tests.support.world import HOST

CONNECT, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBSCRIBE, UNSUBSCRIBE = 1, 3, 4, 5, 6, 7, 8, 10
PINGREQ = b"\xc0\x00"
DISCONNECT = b"\xe0\x00"
CONNACK, PINGRESP = 2, 13


def length(number: int) -> bytes:
    """A remaining length."""
    encoded = bytearray()
    while True:
        number, low = number >> 7, number & 0x7F
        encoded.append(low | (0x80 if number else 0))
        if not number:
            return bytes(encoded)


def packet(kind: int, body: bytes, flags: int = 0) -> bytes:
    """A whole packet."""
    return bytes([kind << 4 | flags]) + length(len(body)) + body


def text(data: bytes) -> bytes:
    """A string or binary field, cut to what its length can say."""
    data = data[:65535]
    return struct.pack("!H", len(data)) + data


def connect(
    client_id: bytes, *, clean: bool = True, keepalive: int = 60, will: tuple[bytes, bytes, int] | None = None
) -> bytes:
    """CONNECT; a will is topic, payload and QoS."""
    flags = clean << 1
    rest = b""
    if will is not None:
        topic, payload, qos = will
        flags |= 4 | qos << 3
        rest = text(topic) + text(payload)
    return packet(CONNECT, text(b"MQTT") + bytes([4, flags]) + struct.pack("!H", keepalive) + text(client_id) + rest)


def publish(topic: bytes, payload: bytes, *, qos: int = 0, packet_id: int = 1, retain: bool = False) -> bytes:
    """PUBLISH."""
    body = text(topic) + (struct.pack("!H", packet_id) if qos else b"") + payload
    return packet(PUBLISH, body, qos << 1 | retain)


def subscribe(topic_filter: bytes, *, qos: int = 0, packet_id: int = 1) -> bytes:
    """SUBSCRIBE to one filter."""
    return packet(SUBSCRIBE, struct.pack("!H", packet_id) + text(topic_filter) + bytes([qos]), 2)


class RawClient:
    """A socket to a broker; reads what comes so that the broker never waits for it."""

    def __init__(self, port: int, client_id: bytes | None = None, *, receive_buffer: int | None = None) -> None:
        """Connect; say a good CONNECT and hear its CONNACK when a client id is given."""
        self._socket = socket.socket()
        if receive_buffer is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.settimeout(PATIENCE_S)
        self._socket.connect((HOST, port))
        self._unread = bytearray()
        if client_id is not None:
            self._socket.sendall(connect(client_id))
            assert self.next_packet()[:1] == bytes([CONNACK << 4]), "no CONNACK"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def say(self, data: bytes) -> bool:
        """Send; False when the broker has hung up."""
        try:
            self._socket.sendall(data)
        except ConnectionError:
            return False
        return True

    def reached(self) -> bool:
        """Wait until the broker has taken everything said so far; False when it has hung up instead."""
        try:
            self._socket.sendall(PINGREQ)
            while (answer := self.next_packet())[:1] != bytes([PINGRESP << 4]):
                if not answer:
                    return False
        except ConnectionError:
            return False
        return True

    def hear_out(self) -> bytes:
        """Say nothing more and read to the broker's end; raises TimeoutError when it does not come."""
        heard = bytearray(self._unread)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            while data := self._socket.recv(65536):
                heard += data
        return bytes(heard)

    def next_packet(self) -> bytes:
        """The next whole packet, empty at the end."""
        while True:
            end = self._end()
            if end is not None and end <= len(self._unread):
                whole = bytes(self._unread[:end])
                del self._unread[:end]
                return whole
            data = self._socket.recv(65536)
            if not data:
                return b""
            self._unread += data

    def _end(self) -> int | None:
        number = 0
        for place, byte in enumerate(self._unread[1:5]):
            number |= (byte & 0x7F) << 7 * place
            if byte < 0x80:
                return 2 + place + number
        return None
