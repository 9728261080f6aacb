"""Sends and receives PUBLISH and PUBACK without paho, which handles everything else of a connection.

It uses private names of paho: docs/decisions/0008-past-paho.md has the reasons, the tests that pin them and the way
back.
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
"""The most bytes that one turn of the loop reads. What they cause must fit into the buffer of an app that reads: no app
has its turn before the next, and 64 KiB unsent close its socket.
"""
MAX_SHORT_BYTES = 65_536
"""A PUBLISH with a longer body goes to paho in pieces, as they arrive."""
ACK_WITHIN_S = 0.01
MOST_UNACKED = 8
"""Of confirmations that wait for what is sent next: fewer than half of the messages that a broker sends without one."""
MAX_UNSENT_BYTES = 4 * 1024 * 1024

CHECKED = frozenset({"2.2.0"})
"""The versions of paho-mqtt whose private names were checked."""
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
"""The bit that marks a continued length."""
_ENDLESS = 1 << 28
"""More than MQTT can encode."""

Publish = Callable[[bytes, bytes, int, bool, int], None]
"""Called with topic, payload, QoS, retain flag and packet id (0 with QoS 0); must not raise."""
Other = Callable[[bytes], MQTTErrorCode]
Hear = Callable[["StreamClient", bytes, bytes, int, bool, int], None]
"""As `Publish`, with the client as first argument."""


def why_not(client: object = None, version: str = paho_version) -> str | None:
    """Why the fast path is unavailable with this paho version (default: the installed one); None if it is available."""
    if version not in CHECKED:
        return f"paho-mqtt {version} is not one of {', '.join(sorted(CHECKED))}"
    client = client or paho.Client(CallbackAPIVersion.VERSION2)
    gone = [name for name in _PRIVATE if not hasattr(client, name)]
    return f"this paho-mqtt {version} lacks {', '.join(gone)}" if gone else None


def encode_publish0(topic: bytes, payload: bytes) -> bytes:
    """A PUBLISH of QoS 0, not retained; topic and payload together have less than 2 MiB."""
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


class PacketCutter:
    """Cuts the bytes of a connection into packets, in whatever pieces they arrive.

    `publish` is called with each PUBLISH of QoS 0 or 1 that is well-formed and not too long. All other bytes go to
    `other`, packet by packet: first at least the fixed header, then the rest as it arrives. It returns a code above 0
    if the connection must end; so does `feed`, which then stops.
    """

    def __init__(self) -> None:
        self._rest = bytearray()
        self._wanted = 0
        """How many bytes `_rest` needs before a further look is useful."""
        self._passing = 0
        """How many bytes of the packet that `other` is receiving are still missing."""

    def feed(self, data: bytes, publish: Publish, other: Other) -> MQTTErrorCode:
        """Process the bytes that were read."""
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
                return (
                    MQTTErrorCode.MQTT_ERR_PROTOCOL
                )  # type 0 does not exist, and paho would lose its place in the packet
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
    """The size of the body, encoded `at`, and where the body begins: beyond the end if the size is incomplete.

    A size with too many bytes counts as endless, so that paho receives all of it and names the fault.
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
    """Pass on a whole PUBLISH; False if it is malformed."""
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


class StreamClient(paho.Client):
    """A paho client that passes on each PUBLISH itself, and sends everything of one turn of the loop at once.

    `loop_read` reads once. What `ack` and `send_soon` write keeps its order, also among paho's own packets.
    """

    def __init__(self, hear: Hear, loop: asyncio.AbstractEventLoop, **options: Any) -> None:
        super().__init__(**options)
        self._hear = hear
        self._call_soon = loop.call_soon
        self._call_later = loop.call_later
        self._cutter = PacketCutter()
        self._passed = b""
        self._soon: list[bytes] = []
        self._acks: list[bytes] = []
        self._acks_timer: asyncio.TimerHandle | None = None
        self._unsent_bytes = 0

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:  # noqa: ARG002 - paho's own ignores it, too
        """Read once and process every packet in it; the end of the connection is left to paho."""
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
            # The cutter keeps no callback: an unreferenced client must be freed at once, with its socket.
            code = self._cutter.feed(data, partial(self._hear, self), self._pass)
        return self._loop_rc_handle(code) if code > 0 else code

    def ack(self, mid: int, qos: int) -> MQTTErrorCode:
        """Send PUBACK soon. It is never refused: a broker whose window lacks it would deliver less and less."""
        if qos != 1:
            return super().ack(mid, qos)
        return _SUCCESS if self._enqueue(encode_puback(mid)) else MQTTErrorCode.MQTT_ERR_NO_CONN

    def ack_soon(self, mid: int) -> None:
        """Send PUBACK with what is sent next, at last after `ACK_WITHIN_S`, or when `MOST_UNACKED` wait."""
        acks = self._acks
        acks.append(encode_puback(mid))
        if self._soon:
            return  # what this turn sends takes it along
        if len(acks) >= MOST_UNACKED:
            self._send_acks()
        elif self._acks_timer is None:
            self._acks_timer = self._call_later(ACK_WITHIN_S, self._acks_are_due)

    def _acks_are_due(self) -> None:
        self._acks_timer = None
        if self._acks:
            self._send_acks()

    def _send_acks(self) -> None:
        acks = b"".join(self._acks)
        self._acks.clear()
        self._enqueue(acks)

    def send_soon(self, packet: bytes) -> bool:
        """Send a whole packet after this turn of the loop; False if the buffer is full or the connection is gone."""
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
        if self._acks:
            acks = b"".join(self._acks)
            self._acks.clear()
            self._soon.append(acks)
            self._unsent_bytes += len(acks)
        if self._out_packet:
            self._hand_over()
            return
        together = b"".join(self._soon)
        try:
            sent = self._sock_send(together)
        except OSError:
            sent = 0  # full or broken: paho's writer gets the same error and reports it
        else:
            self._last_msg_out = monotonic()
        self._soon = [together[sent:]] if sent < len(together) else []
        if self._soon:
            self._hand_over()

    def _hand_over(self) -> None:
        """Let paho's writer continue. For paho this is one packet without any follow-up after sending."""
        together = b"".join(self._soon)
        self._soon.clear()
        super()._packet_queue(_PUBACK, together, 0, 0)

    # Called by paho:

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
            self._hand_over()  # bytes that were sent before come first
        self._unsent_bytes += len(packet)
        return super()._packet_queue(command, packet, mid, qos, info)
