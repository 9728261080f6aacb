import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker import greeting
from contract.errors import MessageError
from tests.fuzz.rawmqtt import text

TEXTS = [text(b"id"), text(b"a/b"), text(b"will"), text(b"user"), text(b"pass")]


def body(flags: int, *fields: bytes, name: bytes = b"MQTT", level: int = 4) -> bytes:
    return text(name) + bytes([level, flags]) + struct.pack("!H", 60) + b"".join(fields)


@pytest.mark.parametrize(
    ("flags", "fields"),
    [(0x02, TEXTS[:1]), (0xEE, TEXTS), (0x82, [TEXTS[0], TEXTS[3]]), (0, [text(b"")]), (0x04, [*TEXTS[:2], text(b"")])],
)
def test_what_is_well_formed_is_taken_and_cut_anywhere_it_is_not(flags: int, fields: list[bytes]) -> None:
    whole = body(flags, *fields)
    greeting.check(whole)
    for end in range(len(whole)):
        with pytest.raises(MessageError):
            greeting.check(whole[:end])
    with pytest.raises(MessageError, match="more fields"):
        greeting.check(whole + b"\0")


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
        greeting.check(body(flags, *fields))


def test_passwords_and_last_wills_are_bytes() -> None:
    greeting.check(body(0xC6, TEXTS[0], TEXTS[1], text(b"\xff\0"), TEXTS[3], text(b"\xff\0")))


def test_other_versions_are_left_to_be_answered() -> None:
    greeting.check(body(0xFF, level=5))
    greeting.check(body(0xFF, name=b"MQIsdp", level=3))
    assert greeting.is_older(body(2, TEXTS[0], name=b"MQIsdp", level=3))
    assert not greeting.is_older(body(2, TEXTS[0]))


@given(st.binary(max_size=60))
def test_any_bytes_are_well_formed_or_a_message_error(data: bytes) -> None:
    for given_bytes in (data, text(b"MQTT") + b"\4" + data):
        try:
            greeting.check(given_bytes)
        except MessageError as error:
            assert error.reason  # noqa: PT017  # either is right
