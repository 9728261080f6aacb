"""The short way of PUBLISH and PUBACK past paho, which keeps everything else of a connection.

It uses names of paho that are not public: docs/decisions/0008-past-paho.md says why, what pins them and the way back.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any

from paho.mqtt import __version__ as paho_version
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

READ_BYTES = 16_384
"""What one turn of the loop reads at most. What it sets off must find room at an app that reads: no app has its turn
before the next, and 64 KiB unsent close it."""
MAX_SHORT_BYTES = 65_536
"""A PUBLISH with a longer body goes to paho, piece by piece as it comes."""
MAX_UNSENT_BYTES = 4 * 1024 * 1024

CHECKED = frozenset({"2.2.0"})
"""The versions of paho-mqtt whose private names were looked at."""
_PRIVATE = (
    "_last_bytes_received",
    "_last_msg_out",
    "_loop_rc_handle",
    "_out_packet",
    "_packet_queue",
    "_packet_read",
    "_sock",
    "_sock_recv",
    "_sock_send",
)

_SUCCESS = MQTTErrorCode.MQTT_ERR_SUCCESS
_TYPE_1, _PUBLISH, _PUBACK = 0x10, 0x30, 0x40
_TYPE_AND_QOS_2 = 0xF4
_MORE = 0x80
"""The bit that says that a length goes on."""
_ENDLESS = 1 << 28
"""More than MQTT can write."""

Publish = Callable[[bytes, bytes, int, bool, int], None]
"""Called with topic, payload, QoS, retain flag and packet id (0 with QoS 0); must not raise."""
Other = Callable[[bytes], MQTTErrorCode]
Hear = Callable[["FastClient", bytes, bytes, int, bool, int], None]
"""As `Publish`, and first the client."""


def why_not(client: object = None, version: str = paho_version) -> str | None:
    """Why the short way cannot be taken with this paho (by default the one that is installed); None when it can."""
    if version not in CHECKED:
        return f"paho-mqtt {version} is none of {', '.join(sorted(CHECKED))}"
    client = client or paho.Client(CallbackAPIVersion.VERSION2)
    gone = [name for name in _PRIVATE if not hasattr(client, name)]
    return f"this paho-mqtt {version} has no {', '.join(gone)}" if gone else None


def encode_publish0(topic: bytes, payload: bytes) -> bytes:
    """A PUBLISH of QoS 0 that is not retained; topic and payload together have less than 2 MiB."""
    size = 2 + len(topic) + len(payload)
    head = _HEADS[size] if size < len(_HEADS) else _head(size)
    return b"".join((head, len(topic).to_bytes(2), topic, payload))


def _head(size: int) -> bytes:
    if size < 1 << 7:
        return bytes((_PUBLISH, size))
    if size < 1 << 14:
        return bytes((_PUBLISH, size & 0x7F | _MORE, size >> 7))
    return bytes((_PUBLISH, size & 0x7F | _MORE, size >> 7 & 0x7F | _MORE, size >> 14))


_HEADS = [_head(size) for size in range(512)]


def encode_puback(mid: int) -> bytes:
    """A PUBACK."""
    return b"\x40\x02" + mid.to_bytes(2)


class Cutter:
    """Cuts the bytes of a connection into packets, however they come.

    `publish` is called with each PUBLISH of QoS 0 or 1 that is well-formed and not too long. All other bytes go to
    `other`, packet by packet: first at least the fixed header, then what comes of the rest. It returns a code above 0
    when the connection must end; so does `feed`, which then stops.
    """

    def __init__(self) -> None:
        self._rest = bytearray()
        self._wanted = 0
        """So many bytes `_rest` must have before it is worth looking at."""
        self._passing = 0
        """So many bytes of the packet that `other` began to get are still to come."""

    def feed(self, data: bytes, publish: Publish, other: Other) -> MQTTErrorCode:
        """Take what was read."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._wanted:
                return _SUCCESS
            data = bytes(self._rest)
            self._rest.clear()
        at = min(self._passing, len(data))
        if at:
            self._passing -= at
            if (code := other(data[:at])) > 0:
                return code
        return self._cut(data, at, publish, other)

    def _cut(self, data: bytes, at: int, publish: Publish, other: Other) -> MQTTErrorCode:
        end = len(data)
        stop = 0
        while end - at > 1:
            head, size, body = data[at], data[at + 1], at + 2
            if size >= _MORE:
                size, body = _length(data, at + 1, end)
            stop = body + size
            if head < _TYPE_1:
                return MQTTErrorCode.MQTT_ERR_PROTOCOL  # there is no type 0, and paho would lose its place in it
            short = head & _TYPE_AND_QOS_2 == _PUBLISH and size <= MAX_SHORT_BYTES
            if body > end or (short and stop > end):
                break
            if not (short and _published(data, head, body, stop, publish)):
                passed = min(stop, end)
                self._passing = stop - passed
                if (code := other(data[at:passed])) > 0:
                    return code
            at = stop
        if at < end:
            self._rest += data[at:]
            self._wanted = stop - at
        return _SUCCESS


def _length(data: bytes, at: int, end: int) -> tuple[int, int]:
    """The size of the body, written `at`, and where the body begins: beyond the end when the size is not all there.

    A size that goes on for too long is endless, so that paho sees all of it and says what it is.
    """
    size = data[at]
    if size < _MORE:
        return size, at + 1
    size &= _MORE - 1
    for place in range(1, 4):
        if at + place == end:
            return 0, end + 1
        digit = data[at + place]
        size |= (digit & _MORE - 1) << 7 * place
        if digit < _MORE:
            return size, at + place + 1
    return _ENDLESS, end


def _published(data: bytes, head: int, body: int, stop: int, publish: Publish) -> bool:
    """Hand on a whole PUBLISH; False when it is malformed."""
    name = body + 2
    if name >= stop:
        return False
    rest = name + (data[body] << 8 | data[body + 1])
    if head & 2 == 0:
        if not name < rest <= stop:
            return False
        publish(data[name:rest], data[rest:stop], 0, head & 1 == 1, 0)
        return True
    if not name < rest <= stop - 2:
        return False
    publish(data[name:rest], data[rest + 2 : stop], 1, head & 1 == 1, data[rest] << 8 | data[rest + 1])
    return True


class FastClient(paho.Client):
    """A paho client on the loop that hands on each PUBLISH by itself, and sends all of one turn of the loop at once.

    `loop_read` reads once. What `ack` and `send_soon` write keeps its order, among paho's own packets, too.
    """

    def __init__(self, hear: Hear, loop: asyncio.AbstractEventLoop, **options: Any) -> None:
        super().__init__(**options)
        self._hear = hear
        self._call_soon = loop.call_soon
        self._cutter = Cutter()
        self._passed = b""
        self._soon: list[bytes] = []
        self._unsent_bytes = 0

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:  # noqa: ARG002 - paho's own ignores it, too
        """Read once and deal with every packet in it; what ends the connection goes paho's way."""
        if self._sock is None:
            return MQTTErrorCode.MQTT_ERR_NO_CONN
        try:
            data = super()._sock_recv(READ_BYTES)
        except BlockingIOError:
            return _SUCCESS
        except OSError:
            data = b""
        code = MQTTErrorCode.MQTT_ERR_CONN_LOST
        if data:
            self._last_bytes_received = monotonic()
            # No callback is kept in the cutter: a client that nobody holds must go at once, with its socket.
            code = self._cutter.feed(data, partial(self._hear, self), self._pass)
        return self._loop_rc_handle(code) if code > 0 else code

    def ack(self, mid: int, qos: int) -> MQTTErrorCode:
        """Send PUBACK soon. It is never refused: a broker whose window lacks it would let less and less through."""
        if qos != 1:
            return super().ack(mid, qos)
        return _SUCCESS if self._enqueue(encode_puback(mid)) else MQTTErrorCode.MQTT_ERR_NO_CONN

    def send_soon(self, packet: bytes) -> bool:
        """Send a whole packet after this turn of the loop; False when too much waits or the connection is gone."""
        return self._unsent_bytes < MAX_UNSENT_BYTES and self._enqueue(packet)

    def _enqueue(self, packet: bytes) -> bool:
        if self._sock is None:
            return False
        if not self._soon:
            self._call_soon(self._flush)
        self._soon.append(packet)
        self._unsent_bytes += len(packet)
        return True

    def _flush(self) -> None:
        if not self._soon:
            return
        if self._out_packet:
            self._hand_over()
            return
        together = b"".join(self._soon)
        try:
            sent = self._sock_send(together)
        except OSError:
            sent = 0  # it is full, or broken: then paho's writer meets the error again and tells of it
        else:
            self._last_msg_out = monotonic()
        self._soon = [together[sent:]] if sent < len(together) else []
        if self._soon:
            self._hand_over()

    def _hand_over(self) -> None:
        """Let paho's writer go on. To it this is one packet, of which it wants to know nothing once it is sent."""
        together = b"".join(self._soon)
        self._soon.clear()
        super()._packet_queue(_PUBACK, together, 0, 0)

    # What paho calls:

    def _pass(self, data: bytes) -> MQTTErrorCode:
        self._passed = data
        return self._packet_read()

    def _sock_recv(self, bufsize: int) -> bytes:
        taken, self._passed = self._passed[:bufsize], self._passed[bufsize:]
        if not taken:
            raise BlockingIOError
        return taken

    def _sock_send(self, buf: bytes | bytearray) -> int:
        sent = super()._sock_send(buf)
        self._unsent_bytes -= sent
        return sent

    def _packet_queue(
        self, command: int, packet: bytes | bytearray, mid: int, qos: int, info: paho.MQTTMessageInfo | None = None
    ) -> MQTTErrorCode:
        if self._soon:
            self._hand_over()  # what was given out before goes before
        self._unsent_bytes += len(packet)
        return super()._packet_queue(command, packet, mid, qos, info)
