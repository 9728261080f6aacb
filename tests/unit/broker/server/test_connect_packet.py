import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.server import connect_packet as greeting
from broker.server.session import Will
from contract.errors import MessageError
from tools.fuzz.rawmqtt import CONNECT, PUBLISH, packet, text

TEXTS = [text(b"id"), text(b"a/b"), text(b"will"), text(b"user"), text(b"pass")]


def body(flags: int, *fields: bytes, name: bytes = b"MQTT", level: int = 4) -> bytes:
    return text(name) + bytes([level, flags]) + struct.pack("!H", 60) + b"".join(fields)


@pytest.mark.parametrize(
    ("flags", "fields"),
    [(0x02, TEXTS[:1]), (0xEE, TEXTS), (0x82, [TEXTS[0], TEXTS[3]]), (0, [text(b"")]), (0x04, [*TEXTS[:2], text(b"")])],
)
def test_what_is_well_formed_is_taken_and_cut_anywhere_it_is_not(flags: int, fields: list[bytes]) -> None:
    whole = body(flags, *fields)
    greeting.read(whole)
    for end in range(len(whole)):
        with pytest.raises(MessageError):
            greeting.read(whole[:end])
    with pytest.raises(MessageError, match="more fields"):
        greeting.read(whole + b"\0")


@pytest.mark.parametrize(
    ("flags", "fields", "why"),
    [
        (0x03, TEXTS[:1], "reserved"),
        (0x22, TEXTS[:1], "flags of a last will"),
        (0x0A, TEXTS[:1], "flags of a last will"),
        (0x1E, TEXTS[:3], "QoS 3"),
        (0x42, [TEXTS[0], TEXTS[4]], "no user name"),
        (0x02, [text(b"\xff")], "UTF-8"),
        (0x02, [text(b"\xed\xa0\x80")], "UTF-8"),
        (0x02, [text(b"a\0b")], "U\\+0000"),
        (0x82, [TEXTS[0], text(b"\0")], "U\\+0000"),
        (0x06, [TEXTS[0], text(b"\xc0\xaf"), text(b"")], "UTF-8"),
        (0x06, [TEXTS[0], text(b""), text(b"x")], "without a topic"),
    ],
)
def test_what_breaks_the_protocol_is_named(flags: int, fields: list[bytes], why: str) -> None:
    with pytest.raises(MessageError, match=why):
        greeting.read(body(flags, *fields))


def test_passwords_and_last_wills_are_bytes() -> None:
    read = greeting.read(body(0xC6, TEXTS[0], TEXTS[1], text(b"\xff\0"), TEXTS[3], text(b"\xff\0")))
    assert read.will == Will("a/b", b"\xff\0", 0, retain=False)
    assert read.password == "\\xff\0"


@pytest.mark.parametrize(
    ("flags", "fields", "read"),
    [
        (0x02, TEXTS[:1], greeting.Connect("id", True, 60, None, None, None)),
        (0xEE, TEXTS, greeting.Connect("id", True, 60, Will("a/b", b"will", 1, retain=True), "user", "pass")),
        (0x14, TEXTS[:3], greeting.Connect("id", False, 60, Will("a/b", b"will", 2, retain=False), None, None)),
        (0x80, [text(b""), TEXTS[3]], greeting.Connect("", False, 60, None, "user", None)),
    ],
)
def test_all_fields_are_read(flags: int, fields: list[bytes], read: greeting.Connect) -> None:
    assert greeting.read(body(flags, *fields)) == read


@pytest.mark.parametrize(
    ("name", "level", "said"),
    [
        (b"MQTT", 5, "it speaks MQTT 5,"),
        (b"MQIsdp", 3, "it speaks MQTT 3.1,"),
        (b"MQTT", 0, "MQTT of level 0,"),
        (b"MQTT", 3, "MQTT of level 3,"),
        (b"MQTT", 6, "MQTT of level 6,"),
        (b"MQTT", 0x84, "MQTT of level 132,"),  # as Mosquitto's bridges begin
        (b"MQIsdp", 0x83, "MQIsdp of level 131,"),
        (b"MQIsdp", 4, "MQIsdp of level 4,"),
        (b"MQTT", 255, "MQTT of level 255,"),
    ],
)
@pytest.mark.parametrize("size", [0, 10, 200, 20_000, 3_000_000])
def test_another_version_is_told_by_name_and_level_alone(name: bytes, level: int, said: str, size: int) -> None:
    whole = packet(CONNECT, text(name) + bytes([level]) + bytes(size))
    end = whole.index(name) + len(name) + 1
    for known in range(end):
        assert not greeting.judge_version(whole[:known])
    for known in {end, min(end + 1, len(whole)), min(greeting.START_BYTES, len(whole))}:
        with pytest.raises(greeting.VersionError, match=said):
            greeting.judge_version(whole[:known])


@pytest.mark.parametrize(
    "whole",
    [
        packet(CONNECT, body(2, TEXTS[0])),
        packet(CONNECT, text(b"MQXX") + bytes([5, 2, 0, 60, 0, 0, 0, 0])),
        packet(PUBLISH, text(b"MQTT") + b"\5" + bytes(20)),
        b"\x10\xff\xff\xff\xff" + text(b"MQTT") + b"\5" + bytes(20),
    ],
)
def test_what_is_of_this_version_or_of_none_is_left_to_what_judges_the_rest(whole: bytes) -> None:
    assert greeting.judge_version(whole[: greeting.START_BYTES])


@pytest.mark.parametrize("name", [b"", b"mqtt", b"MQTTX", b"MQIsdp\0"])
def test_a_name_that_is_none_is_malformed(name: bytes) -> None:
    with pytest.raises(MessageError, match="protocol name"):
        greeting.read(body(2, TEXTS[0], name=name))


@given(st.binary(max_size=60))
def test_any_bytes_are_well_formed_or_a_message_error(data: bytes) -> None:
    for given_bytes in (data, text(b"MQTT") + b"\4" + data):
        try:
            greeting.read(given_bytes)
        except MessageError as error:
            assert error.reason  # noqa: PT017  # either is right
