import pytest
from amqtt.mqtt import packet as codes
from amqtt.mqtt.connack import ConnackPacket
from amqtt.mqtt.connect import ConnectPacket, ConnectPayload, ConnectVariableHeader
from amqtt.mqtt.pingreq import PingReqPacket
from amqtt.mqtt.pingresp import PingRespPacket
from amqtt.mqtt.puback import PubackPacket
from amqtt.mqtt.pubcomp import PubcompPacket
from amqtt.mqtt.publish import PublishPacket
from amqtt.mqtt.pubrec import PubrecPacket
from amqtt.mqtt.pubrel import PubrelPacket
from amqtt.mqtt.suback import SubackPacket
from amqtt.mqtt.subscribe import SubscribePacket
from amqtt.mqtt.unsuback import UnsubackPacket
from amqtt.mqtt.unsubscribe import UnsubscribePacket
from hypothesis import assume, given
from hypothesis import strategies as st

from broker.server.codec import (
    PINGRESP,
    Answer,
    Bare,
    Framer,
    Publish,
    Subscribe,
    Unsubscribe,
    decode,
    encode_answer,
    encode_connack,
    encode_publish,
    encode_suback,
)
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


def test_a_publish_is_decoded() -> None:
    packet = decode(PUBLISH)
    assert packet == Publish("a/b", b"hello", 1, retain=False, packet_id=7)


@given(
    st.text(st.characters(exclude_characters="+#\0", exclude_categories=["Cs"]), min_size=1, max_size=300), st.data()
)
def test_a_publish_is_written_as_amqtt_writes_it_and_read_back(topic: str, data: st.DataObject) -> None:
    qos, again, retain = data.draw(st.integers(0, 2)), data.draw(st.booleans()), data.draw(st.booleans())
    payload = data.draw(st.sampled_from([b"", b"x", b"x" * 100, b"x" * 200, b"\xff" * 20_000, b"y" * 2_100_000]))
    packet_id = data.draw(st.integers(1, 65_535)) if qos else None
    written = encode_publish(topic, payload, qos, packet_id=packet_id, retain=retain, again=again)
    assert written == PublishPacket.build(topic, payload, packet_id, again, qos, retain).to_bytes()
    assume(topic.count("/") <= 200)
    assert decode(written) == Publish(topic, payload, qos, retain, packet_id or 0)


@given(st.integers(1, 65_535), st.lists(st.sampled_from([0, 1, 2, 0x80]), min_size=1, max_size=200))
def test_answers_are_written_as_amqtt_writes_them(packet_id: int, granted: list[int]) -> None:
    assert encode_suback(packet_id, granted) == SubackPacket.build(packet_id, granted).to_bytes()
    assert encode_answer(codes.UNSUBACK, packet_id) == UnsubackPacket.build(packet_id).to_bytes()
    for kind, packet in (
        (codes.PUBACK, PubackPacket),
        (codes.PUBREC, PubrecPacket),
        (codes.PUBREL, PubrelPacket),
        (codes.PUBCOMP, PubcompPacket),
    ):
        written = encode_answer(kind, packet_id)
        assert written == packet.build(packet_id).to_bytes()
        assert decode(written) == Answer(kind, packet_id)
    for present in (False, True):
        for code in range(6):
            assert encode_connack(present=present, code=code) == ConnackPacket.build(present, code).to_bytes()
    assert PingRespPacket.build().to_bytes() == PINGRESP


def test_a_subscribe_is_decoded() -> None:
    packet = decode(SUBSCRIBE)
    assert packet == Subscribe(5, [("가/+", 1), ("b", 0)])


def test_a_ping_and_a_goodbye_are_decoded() -> None:
    assert decode(b"\xc0\0") == Bare(codes.PINGREQ)
    assert decode(b"\xe0\0") == Bare(codes.DISCONNECT)


def test_an_unsubscribe_is_decoded() -> None:
    assert decode(UnsubscribePacket.build(["a/#", "b"], 5).to_bytes()) == Unsubscribe(5, ["a/#", "b"])


def test_a_second_connect_is_refused() -> None:
    with pytest.raises(MessageError, match="a second CONNECT"):
        decode(CONNECT)


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
def test_a_malformed_packet_is_refused(body: bytes) -> None:
    with pytest.raises(MessageError):
        decode(body)


@given(st.sampled_from(PACKETS), st.data())
def test_no_damaged_packet_escapes_as_another_error(packet: bytes, data: st.DataObject) -> None:
    damaged = bytearray(packet)
    damaged[data.draw(st.integers(0, min(len(packet) - 1, 40)))] = data.draw(st.integers(0, 255))
    framer = Framer(1 << 20)
    framer.feed(bytes(damaged))
    try:
        while (whole := framer.next_packet()) is not None:
            decode(whole)
    except MessageError:
        pass
