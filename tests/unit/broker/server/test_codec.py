import asyncio

import pytest
from amqtt.mqtt.connect import ConnectPacket, ConnectPayload, ConnectVariableHeader
from amqtt.mqtt.pingreq import PingReqPacket
from amqtt.mqtt.puback import PubackPacket
from amqtt.mqtt.publish import PublishPacket
from amqtt.mqtt.subscribe import SubscribePacket
from hypothesis import given
from hypothesis import strategies as st

from broker.server.codec import Framer, decode
from contract.errors import MessageError

PUBLISH = PublishPacket.build("a/b", b"hello", 7, dup_flag=False, qos=1, retain=False).to_bytes()
LONG_PUBLISH = PublishPacket.build("a/b", b"x" * 20_000, None, dup_flag=False, qos=0, retain=True).to_bytes()
SUBSCRIBE = SubscribePacket.build([("가/+", 1), ("b", 0)], 5).to_bytes()
CONNECT = ConnectPacket(variable_header=ConnectVariableHeader(2, 60), payload=ConnectPayload("x")).to_bytes()
PACKETS = [CONNECT, PUBLISH, LONG_PUBLISH, SUBSCRIBE, PingReqPacket().to_bytes(), PubackPacket.build(9).to_bytes()]


def cut(data: bytes, *pieces: int, limit: int = 1 << 20) -> list[bytes]:
    framer = Framer(limit)
    found = []
    start = 0
    for end in [*sorted(pieces), len(data)]:
        framer.feed(data[start:end])
        start = max(start, end)
        while (packet := framer.next_packet()) is not None:
            found.append(packet)
    return found


@given(st.lists(st.integers(0, len(b"".join(PACKETS))), max_size=30))
def test_packets_come_out_whole_however_the_stream_is_cut(pieces: list[int]) -> None:
    assert cut(b"".join(PACKETS), *pieces) == PACKETS


def test_half_a_packet_is_none() -> None:
    assert cut(PUBLISH[:-1]) == []
    assert cut(PUBLISH[:1]) == []


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1",
        b"\x00\x00",
        b"\xf0\x00",
        b"\x36\x03\0\1a",
        b"\x20\x02\0\0",
        b"\x80\x00",
        b"\x30\xff\xff\xff\xff",
    ],
    ids=["http", "type_0", "type_15", "qos_3", "connack", "wrong_flags", "endless_length"],
)
def test_a_stream_that_cannot_be_mqtt_is_refused(garbage: bytes) -> None:
    with pytest.raises(MessageError):
        cut(garbage)


def test_a_packet_longer_than_allowed_is_refused_before_it_has_come() -> None:
    with pytest.raises(MessageError, match="longer than 1000"):
        cut(LONG_PUBLISH[:4], limit=1000)


@given(st.binary(max_size=200))
def test_no_bytes_break_the_framer(data: bytes) -> None:
    try:
        packets = cut(data)
    except MessageError:
        return
    assert b"".join(packets) == data[: sum(map(len, packets))]


async def test_a_publish_is_decoded() -> None:
    packet = await decode(PUBLISH)
    assert (packet.topic_name, packet.data, packet.qos, packet.packet_id) == ("a/b", b"hello", 1, 7)


async def test_a_subscribe_is_decoded() -> None:
    packet = await decode(SUBSCRIBE)
    assert packet.payload.topics == [("가/+", 1), ("b", 0)]


@pytest.mark.parametrize(
    "body",
    [
        b"\x30\x04\0\x09ab",
        b"\x30\x03\0\1\xff",
        b"\x32\x05\0\1a\0\0",
        b"\x32\x03\0\1a",
        b"\x30\x03\0\1#",
        b"\x40\x03\0\1\0",
        b"\xc0\x01\0",
        b"\x82\x02\0\1",
        b"\x82\x06\0\1\0\1a\3",
        b"\x82\x06\0\1\0\x09a\0",
        b"\x82\x06\0\1\0\1\xff\0",
        b"\x82\x06\0\0\0\1a\0",
        b"\xa2\x02\0\1",
        b"\xa2\x06\0\1\0\1ab",
    ],
    ids=[
        "topic_longer_than_packet",
        "topic_not_utf8",
        "packet_id_0",
        "no_packet_id",
        "wildcard_topic",
        "puback_of_3",
        "pingreq_of_1",
        "no_filter",
        "subscribe_qos_3",
        "filter_longer_than_packet",
        "filter_not_utf8",
        "subscribe_id_0",
        "unsubscribe_nothing",
        "bytes_left_over",
    ],
)
async def test_a_malformed_packet_is_refused(body: bytes) -> None:
    with pytest.raises(MessageError):
        await decode(body)


@given(st.sampled_from(PACKETS), st.data())
def test_no_damaged_packet_escapes_as_another_error(packet: bytes, data: st.DataObject) -> None:
    damaged = bytearray(packet)
    damaged[data.draw(st.integers(0, min(len(packet) - 1, 40)))] = data.draw(st.integers(0, 255))
    framer = Framer(1 << 20)
    framer.feed(bytes(damaged))
    try:
        while (whole := framer.next_packet()) is not None:
            asyncio.run(decode(whole))
    except MessageError:
        pass
