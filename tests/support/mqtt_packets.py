"""MQTT 3.1.1 on the wire, as far as a proxy must know it; nothing of the project's own framing is used."""

import asyncio

PACKET_MAX = 1024 * 1024
HEAD_MAX = 5
PUBLISH = 3


async def read_packet(reader: asyncio.StreamReader) -> bytes:
    """The next whole packet; empty when the stream has ended or broken, or announces more than `PACKET_MAX` bytes."""
    try:
        head = await reader.readexactly(2)
        while head[-1] & 0x80:
            if len(head) == HEAD_MAX:
                return b""
            head += await reader.readexactly(1)
        length = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(head[1:]))
        if len(head) + length > PACKET_MAX:
            return b""
        return head + await reader.readexactly(length)
    except (asyncio.IncompleteReadError, OSError):
        return b""


def topic_of(packet: bytes) -> str | None:
    """A PUBLISH's topic; None for any other packet."""
    if not packet or packet[0] >> 4 != PUBLISH:
        return None
    body = _body(packet)
    end = 2 + int.from_bytes(body[:2])
    return body[2:end].decode(errors="replace") if len(body) >= end else None


def payload_of(packet: bytes) -> bytes:
    """A PUBLISH's payload, without the packet id that goes before it."""
    body = _body(packet)
    packet_id = 2 if packet[0] & 0b0110 else 0
    return body[2 + int.from_bytes(body[:2]) + packet_id :]


def as_qos_0(packet: bytes) -> bytes:
    """The same PUBLISH without a packet id, so that nobody acknowledges it; for packets below 16 KiB."""
    body = _body(packet)
    end = 2 + int.from_bytes(body[:2])
    short = body[:end] + payload_of(packet)
    low, high = len(short) & 0x7F, len(short) >> 7
    return bytes([PUBLISH << 4]) + (bytes([low | 0x80, high]) if high else bytes([low])) + short


def _body(packet: bytes) -> bytes:
    start = 1
    while packet[start : start + 1] >= b"\x80":
        start += 1
    return packet[start + 1 :]
