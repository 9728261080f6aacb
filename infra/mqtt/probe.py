"""Sends one CONNECT on a bare socket and reads the answer, without taking over a running client."""

import contextlib
import secrets
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from infra.settings.broker import MqttSettings
from infra.tls import fault_of

WITHIN_S = 5.0
MQTT_311: Literal[4] = 4
MQTT_5: Literal[5] = 5
NO_METHOD = "sarvis-doctor"
"""An authentication method that no broker has: an MQTT 5 broker refuses it before it begins or ends a session."""

MOST_BYTES = 4096
_CONNECT, _CONNACK, _DISCONNECT = b"\x10", 0x20, b"\xe0\x00"
_CLEAN, _USERNAME, _PASSWORD = 0x02, 0x80, 0x40
_KEEPALIVE_S = 15
_AUTHENTICATION_METHOD = b"\x15"
_CONNACK_BYTES, _CODE_AT = 4, 3


@dataclass(frozen=True, slots=True)
class Answer:
    """The bytes that followed a CONNECT.

    Attributes:
        raw: the first bytes; empty if the peer sent none.
        closed: whether the peer ended the connection.
    """

    raw: bytes
    closed: bool

    @property
    def code(self) -> int | None:
        """The return code of the CONNACK, 0 for success; None if there was none."""
        return self.raw[_CODE_AT] if self.is_mqtt else None

    @property
    def present(self) -> bool:
        """Whether the broker had a session of this client id."""
        return self.is_mqtt and bool(self.raw[_CODE_AT - 1] & 1)

    @property
    def is_mqtt(self) -> bool:
        """Whether the answer is a CONNACK."""
        return len(self.raw) >= _CONNACK_BYTES and self.raw[0] == _CONNACK


@dataclass(frozen=True, slots=True)
class Greeting:
    """A CONNECT packet.

    Attributes:
        clean: False keeps an existing session as it is.
        method: of MQTT 5's extended authentication; None for none.
    """

    client_id: str
    username: str | None = None
    password: str | None = None
    version: Literal[4, 5] = MQTT_311
    clean: bool = True
    method: str | None = None

    def encode(self) -> bytes:
        """The bytes of the packet."""
        flags = _CLEAN if self.clean else 0
        tail = _text(self.client_id)
        if self.username is not None:
            flags |= _USERNAME
            tail += _text(self.username)
        if self.password is not None:
            flags |= _PASSWORD
            tail += _text(self.password)
        body = _text("MQTT") + bytes([self.version, flags]) + _KEEPALIVE_S.to_bytes(2) + self._properties() + tail
        return _CONNECT + _length(len(body)) + body

    def _properties(self) -> bytes:
        if self.version != MQTT_5:
            return b""
        told = b"" if self.method is None else _AUTHENTICATION_METHOD + _text(self.method)
        return _length(len(told)) + told


def new_client_id(role: str) -> str:
    """A client id that no running client uses."""
    return f"{role}-{secrets.token_hex(6)}"


def knock(
    settings: MqttSettings, context: ssl.SSLContext | None, greeting: Greeting, within_s: float = WITHIN_S
) -> Answer:
    """Send CONNECT, read the answer, send DISCONNECT; raises OSError if the address or TLS cannot be reached."""
    with reached(settings.host, settings.port, context, within_s) as sock:
        return said(sock, greeting.encode(), within_s, b"" if not greeting.username else _DISCONNECT)


@contextlib.contextmanager
def reached(
    host: str, port: int, context: ssl.SSLContext | None, within_s: float = WITHIN_S
) -> Iterator[socket.socket]:
    """A connection that lasts until the end of the block; raises OSError."""
    with contextlib.ExitStack() as stack:
        sock: socket.socket = stack.enter_context(socket.create_connection((host, port), timeout=within_s))
        if context is not None:
            sock = stack.enter_context(context.wrap_socket(sock, server_hostname=host))
        yield sock


def said(sock: socket.socket, words: bytes, within_s: float, goodbye: bytes = b"") -> Answer:
    """Send bytes and return the answer; raises ssl.SSLError if the TLS handshake is refused."""
    heard, closed, ends = b"", False, time.monotonic() + within_s
    try:
        sock.sendall(words)
        while not closed and not _is_whole(heard) and (left_s := ends - time.monotonic()) > 0:
            sock.settimeout(left_s)
            chunk = sock.recv(MOST_BYTES)
            heard += chunk
            closed = not chunk
        if goodbye and not closed:
            sock.sendall(goodbye)
    except TimeoutError:
        pass
    except ssl.SSLError:
        raise
    except OSError:
        closed = True
    if not heard and (fault := fault_of(sock)) is not None:
        raise fault
    return Answer(heard, closed)


def _is_whole(heard: bytes) -> bool:
    """Whether enough bytes came to recognise the protocol: a CONNACK, or a line of another protocol."""
    if heard[:1] == bytes([_CONNACK]):
        return len(heard) >= _CONNACK_BYTES
    return b"\n" in heard or len(heard) >= MOST_BYTES


def _text(text: str) -> bytes:
    raw = text.encode()
    return len(raw).to_bytes(2) + raw


def _length(number: int) -> bytes:
    """MQTT's variable byte integer."""
    encoded = b""
    while True:
        number, low = number >> 7, number & 0x7F
        if not number:
            return encoded + bytes([low])
        encoded += bytes([low | 0x80])
