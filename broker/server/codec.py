"""Cuts a byte stream into MQTT packets before aMQTT's codecs see it."""

import struct
from typing import Any

from amqtt.adapters import BufferReader
from amqtt.errors import AMQTTError, CodecError, MQTTError, NoDataError
from amqtt.mqtt import packet_class
from amqtt.mqtt.packet import (
    CONNECT,
    DISCONNECT,
    PINGREQ,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBSCRIBE,
    UNSUBSCRIBE,
    MQTTFixedHeader,
)

from broker.server.connect_packet import START_BYTES
from broker.topic_filters import too_deep
from contract.errors import MessageError

MAX_LENGTH_BYTES = 4
MAX_QOS = 2
MAX_FILTERS = 1_000
"""Filters in one packet: aMQTT takes 40 us for each, while other clients wait."""

_FLAGS = {
    CONNECT: 0,
    PUBACK: 0,
    PUBREC: 0,
    PUBREL: 2,
    PUBCOMP: 0,
    SUBSCRIBE: 2,
    UNSUBSCRIBE: 2,
    PINGREQ: 0,
    DISCONNECT: 0,
}
_BODY_BYTES = {PUBACK: 2, PUBREC: 2, PUBREL: 2, PUBCOMP: 2, PINGREQ: 0, DISCONNECT: 0}
_CODEC_ERRORS = (AMQTTError, MQTTError, NoDataError, CodecError, ValueError, struct.error)


class Framer:
    """Cuts the bytes of one client into packets, in whatever pieces they arrive."""

    def __init__(self, max_packet_bytes: int) -> None:
        self._max_packet_bytes = max_packet_bytes
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        self._buffer += data

    @property
    def start(self) -> bytes:
        """The beginning of the next packet: enough for its type and a CONNECT's version."""
        return bytes(self._buffer[:START_BYTES])

    def next_packet(self) -> bytes | None:
        """The next whole packet, None if there is none yet; raises MessageError if the stream cannot be MQTT."""
        end = self._end_of_packet()
        if end is None or end > len(self._buffer):
            return None
        packet = bytes(self._buffer[:end])
        del self._buffer[:end]
        return packet

    def _end_of_packet(self) -> int | None:
        if self._buffer and not _known(self._buffer[0]):
            raise MessageError(f"0x{self._buffer[0]:02x} does not begin a packet that a client may send")
        length = 0
        for index, byte in enumerate(self._buffer[1 : 1 + MAX_LENGTH_BYTES]):
            length |= (byte & 0x7F) << 7 * index
            if byte < 0x80:  # noqa: PLR2004  # the continuation bit
                end = 2 + index + length
                # A CONNECT of another version is answered, however long it is.
                judged = self._buffer[0] != CONNECT << 4 or len(self._buffer) >= START_BYTES
                if end > self._max_packet_bytes and judged:
                    raise MessageError(f"a packet of {end} bytes is longer than {self._max_packet_bytes}")
                return end
        if len(self._buffer) > MAX_LENGTH_BYTES:
            raise MessageError("a remaining length takes at most 4 bytes")
        return None


async def decode(packet: bytes) -> Any:
    """The aMQTT packet of a whole packet's bytes; raises MessageError if it violates MQTT 3.1.1. Never waits."""
    header, body = split(packet)
    if len(body) != _BODY_BYTES.get(header.packet_type, len(body)):
        raise MessageError(f"{len(body)} bytes are not a body of packet type {header.packet_type}")
    if header.packet_type in (SUBSCRIBE, UNSUBSCRIBE) and _filters(body, header.packet_type) > MAX_FILTERS:
        raise MessageError(f"more than {MAX_FILTERS} topic filters in one packet")
    try:
        decoded = await packet_class(header).from_stream(BufferReader(body), fixed_header=header)
        _check(header.packet_type, decoded, body)
    except _CODEC_ERRORS as error:
        raise MessageError(f"packet type {header.packet_type} is malformed: {error!r}") from error
    return decoded


def split(packet: bytes) -> tuple[Any, bytes]:
    """Fixed header and body of a whole packet."""
    start = 1
    while packet[start] >= 0x80:  # noqa: PLR2004  # the continuation bit
        start += 1
    body = packet[start + 1 :]
    return MQTTFixedHeader(packet[0] >> 4, packet[0] & 0x0F, len(body)), body


def _filters(body: bytes, kind: int) -> int:
    """How many filters there are by their lengths, counted up to the limit."""
    place, found = 2, 0
    while place < len(body) and found <= MAX_FILTERS:
        place += 2 + int.from_bytes(body[place : place + 2]) + (kind == SUBSCRIBE)
        found += 1
    return found


def _known(first_byte: int) -> bool:
    kind, flags = first_byte >> 4, first_byte & 0x0F
    if kind == PUBLISH:
        return flags >> 1 & 3 <= MAX_QOS
    return _FLAGS.get(kind) == flags


def _check(kind: int, packet: Any, body: bytes) -> None:
    if kind == PUBLISH:
        # aMQTT turns a topic that is not UTF-8 into the text "b'...'".
        if packet.topic_name.encode() != body[2 : 2 + int.from_bytes(body[:2])]:
            raise ValueError("the topic is not UTF-8")
        _check_text(packet.topic_name)
    elif kind in (SUBSCRIBE, UNSUBSCRIBE):
        if not packet.payload.topics:
            raise ValueError("no topic filter")
        # aMQTT reads over wrong lengths; its result must equal the bytes that were sent.
        if packet.variable_header.to_bytes() + packet.payload.to_bytes() != body:
            raise ValueError("lengths or UTF-8 are wrong")
        topics = packet.payload.topics
        for each in topics:
            _check_text(each[0] if kind == SUBSCRIBE else each)
        if kind == SUBSCRIBE and any(qos > MAX_QOS for _, qos in topics):
            raise ValueError("a QoS above 2")
    if packet.variable_header is not None and getattr(packet.variable_header, "packet_id", None) == 0:
        raise ValueError("packet id 0")


def _check_text(topic: str) -> None:
    if "\0" in topic:
        raise ValueError("a topic has U+0000")
    if too_deep(topic):
        raise ValueError("a topic has too many levels")
