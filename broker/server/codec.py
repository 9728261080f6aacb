"""Cuts a byte stream into MQTT packets, and reads and writes them, in the bytes that aMQTT writes.

aMQTT's codecs make five objects of each packet, and read over wrong lengths.
"""

from dataclasses import dataclass

from amqtt.mqtt.packet import (
    CONNACK,
    CONNECT,
    DISCONNECT,
    PINGREQ,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBACK,
    SUBSCRIBE,
    UNSUBSCRIBE,
)

from broker.server.connect_packet import START_BYTES, text_of
from broker.topic_filters import has_wildcard, too_deep
from contract.errors import MessageError

MAX_LENGTH_BYTES = 4
MAX_QOS = 2
MAX_FILTERS = 1_000
"""Filters in one packet, while other clients wait."""

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
_ANSWERS = (PUBACK, PUBREC, PUBREL, PUBCOMP)


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


@dataclass(slots=True)
class Publish:
    """A PUBLISH from a client; `packet_id` is 0 with QoS 0."""

    kind = PUBLISH
    topic: str
    data: bytes
    qos: int
    retain: bool
    packet_id: int


@dataclass(slots=True)
class Answer:
    """PUBACK, PUBREC, PUBREL or PUBCOMP."""

    kind: int
    packet_id: int


@dataclass(slots=True)
class Bare:
    """PINGREQ or DISCONNECT."""

    kind: int


@dataclass(slots=True)
class Subscribe:
    """SUBSCRIBE, by filter and wanted QoS."""

    kind = SUBSCRIBE
    packet_id: int
    filters: list[tuple[str, int]]


@dataclass(slots=True)
class Unsubscribe:
    """UNSUBSCRIBE."""

    kind = UNSUBSCRIBE
    packet_id: int
    filters: list[str]


Packet = Publish | Answer | Bare | Subscribe | Unsubscribe
PINGRESP = b"\xd0\0"


def decode(packet: bytes) -> Packet:
    """What a whole packet says; raises MessageError if it violates MQTT 3.1.1, or is a CONNECT. Never waits."""
    kind, body = split(packet)
    if len(body) != _BODY_BYTES.get(kind, len(body)):
        raise MessageError(f"{len(body)} bytes are not a body of packet type {kind}")
    if kind == PUBLISH:
        return _publish(packet[0], body)
    if kind in _ANSWERS:
        return Answer(kind, _packet_id(kind, body))
    if kind == CONNECT:
        raise MessageError("a second CONNECT")
    if kind in _BODY_BYTES:
        return Bare(kind)
    return _subscribe(body) if kind == SUBSCRIBE else _unsubscribe(body)


def encode_publish(
    topic: str, data: bytes, qos: int, *, packet_id: int | None, retain: bool, again: bool = False
) -> bytes:
    """PUBLISH, of QoS 0 without a packet id."""
    name = topic.encode()
    body = len(name).to_bytes(2) + name + (packet_id.to_bytes(2) if qos and packet_id is not None else b"") + data
    return bytes([PUBLISH << 4 | again << 3 | qos << 1 | retain]) + _length(len(body)) + body


def encode_answer(kind: int, packet_id: int) -> bytes:
    """PUBACK, PUBREC, PUBREL, PUBCOMP or UNSUBACK."""
    return bytes([kind << 4 | _FLAGS.get(kind, 0), 2]) + packet_id.to_bytes(2)


def encode_suback(packet_id: int, codes: list[int]) -> bytes:
    """SUBACK, with a code for each filter."""
    return bytes([SUBACK << 4]) + _length(2 + len(codes)) + packet_id.to_bytes(2) + bytes(codes)


def encode_connack(*, present: bool, code: int) -> bytes:
    """CONNACK, with a return code of MQTT 3.1.1."""
    return bytes([CONNACK << 4, 2, present, code])


def split(packet: bytes) -> tuple[int, bytes]:
    """Type and body of a whole packet."""
    start = 1
    while packet[start] >= 0x80:  # noqa: PLR2004  # the continuation bit
        start += 1
    return packet[0] >> 4, packet[start + 1 :]


def _publish(first: int, body: bytes) -> Publish:
    qos = first >> 1 & 3
    end = 2 + int.from_bytes(body[:2])
    start = end + 2 if qos else end
    if len(body) < max(start, 2):
        raise MessageError("packet type 3 is malformed: it is shorter than its topic says")
    topic = text_of(body[2:end])
    _check_levels(topic)
    if has_wildcard(topic):
        raise MessageError("packet type 3 is malformed: its topic has wildcards")
    packet_id = _packet_id(PUBLISH, body[end:start]) if qos else 0
    return Publish(topic, body[start:], qos, bool(first & 1), packet_id)


def _packet_id(kind: int, field: bytes) -> int:
    packet_id = int.from_bytes(field)
    if packet_id == 0:
        raise MessageError(f"packet type {kind} has the packet id 0")
    return packet_id


def _length(length: int) -> bytes:
    """The remaining length of a packet."""
    if length < 0x80:  # noqa: PLR2004  # the continuation bit
        return bytes([length])
    encoded = bytearray()
    while length:
        length, digit = divmod(length, 0x80)
        encoded.append(digit | 0x80 if length else digit)
    return bytes(encoded)


def _subscribe(body: bytes) -> Subscribe:
    filters: list[tuple[str, int]] = []
    place = 2
    while place < len(body):
        name, place = _filter(SUBSCRIBE, body, place, len(filters))
        if place == len(body):
            raise MessageError("packet type 8 is malformed: a filter has no QoS")
        if body[place] > MAX_QOS:
            raise MessageError(f"packet type 8 is malformed: the QoS {body[place]}")
        filters.append((name, body[place]))
        place += 1
    if not filters:
        raise MessageError("packet type 8 is malformed: no topic filter")
    return Subscribe(_packet_id(SUBSCRIBE, body[:2]), filters)


def _unsubscribe(body: bytes) -> Unsubscribe:
    filters: list[str] = []
    place = 2
    while place < len(body):
        name, place = _filter(UNSUBSCRIBE, body, place, len(filters))
        filters.append(name)
    if not filters:
        raise MessageError("packet type 10 is malformed: no topic filter")
    return Unsubscribe(_packet_id(UNSUBSCRIBE, body[:2]), filters)


def _filter(kind: int, body: bytes, place: int, found: int) -> tuple[str, int]:
    if found == MAX_FILTERS:
        raise MessageError(f"more than {MAX_FILTERS} topic filters in one packet")
    start = place + 2
    end = start + int.from_bytes(body[place:start])
    if end > len(body) or start > len(body):
        raise MessageError(f"packet type {kind} is malformed: it is shorter than its filters say")
    name = text_of(body[start:end])
    _check_levels(name)
    return name, end


def _known(first_byte: int) -> bool:
    kind, flags = first_byte >> 4, first_byte & 0x0F
    if kind == PUBLISH:
        return flags >> 1 & 3 <= MAX_QOS
    return _FLAGS.get(kind) == flags


def _check_levels(topic: str) -> None:
    if too_deep(topic):
        raise MessageError("a topic has too many levels")
