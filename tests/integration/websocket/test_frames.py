"""Frames, messages made of them, and how they come: in pieces, together, too long, or wrong."""

import struct

import pytest

from contract.app_socket import MAX_FRAME_BYTES
from tests.integration.websocket.peer import NEVER, App, beat, heartbeat
from tests.support.world import Bridge
from tools.fuzz.rawsocket import BINARY, CLOSE, CONTINUATION, MASK, PING, PONG, TEXT, frame

ZEROS = bytes(4)


def announce(opcode: int, size: int) -> bytes:
    """The head of a frame of so many bytes, in the longest form."""
    return bytes([0x80 | opcode, 0xFF]) + struct.pack("!Q", size) + MASK


@pytest.mark.parametrize("mask", [MASK, ZEROS, b"\xff\xff\xff\xff", b"\x00\x01\x02\x03"])
def test_a_text_is_understood_under_any_mask(bridge: Bridge, mask: bytes) -> None:
    with App(bridge.port) as app:
        app.say(beat(1, mask=mask))
        app.answered(1)


def test_a_frame_may_come_byte_by_byte(bridge: Bridge) -> None:
    with App(bridge.port) as app:
        app.piecemeal(beat(1) + frame(PING, b"byte") + frame(TEXT, heartbeat(2, 300)))
        app.answered(1, 2)
        assert app.pongs == [b"byte"]


@pytest.mark.parametrize("cut", range(1, 14))
def test_a_frame_may_be_cut_anywhere(bridge: Bridge, cut: int) -> None:
    data = frame(TEXT, heartbeat(1, 200))  # its head has eight bytes
    with App(bridge.port) as app:
        app.say(data[:cut])
        assert bridge.readiness()[0]  # so that it has been read alone
        app.say(data[cut:] + beat(2))
        app.answered(1, 2)


def test_many_frames_may_come_at_once(bridge: Bridge) -> None:
    with App(bridge.port) as app:
        app.say(b"".join(beat(seq) for seq in range(300)))
        app.until("all answers", lambda: len(app.acked) == 300)
        assert app.acked == list(range(300))


def test_many_frames_and_a_part_of_the_next(bridge: Bridge) -> None:
    data = b"".join(beat(seq) for seq in range(50))
    with App(bridge.port) as app:
        for start in range(0, len(data), 97):
            app.say(data[start : start + 97])
        app.answered(*range(50))


@pytest.mark.parametrize("size", [50, 124, 125, 126, 127, 128, 1000, 16_000, MAX_FRAME_BYTES - 1, MAX_FRAME_BYTES])
def test_a_message_may_have_up_to_16_kib(bridge: Bridge, size: int) -> None:
    with App(bridge.port) as app:
        app.say(frame(TEXT, heartbeat(1, size)))
        app.lives(2)
        assert app.acked == [1, 2]


@pytest.mark.parametrize(
    "data",
    [
        frame(TEXT, heartbeat(1, MAX_FRAME_BYTES + 1)),
        frame(BINARY, bytes(MAX_FRAME_BYTES + 1)),
        frame(TEXT, heartbeat(1, 70_000)),
        frame(TEXT, heartbeat(1, MAX_FRAME_BYTES), fin=False) + frame(CONTINUATION, b" "),
        frame(TEXT, b"", fin=False) + frame(CONTINUATION, heartbeat(1, MAX_FRAME_BYTES + 1)),
        frame(TEXT, b" " * 9000, fin=False) + frame(CONTINUATION, b" " * 9000, fin=False),
    ],
)
def test_a_longer_one_is_too_long(bridge: Bridge, data: bytes) -> None:
    with App(bridge.port) as app:
        app.say(data)
        assert app.ended() == 1009
        assert app.acked == []


@pytest.mark.parametrize("size", [MAX_FRAME_BYTES + 1, 2**16, 2**31, 2**32, 2**63 - 1])
def test_a_longer_one_is_refused_before_it_comes(bridge: Bridge, size: int) -> None:
    with App(bridge.port) as app:
        app.say(announce(TEXT, size))
        assert app.ended() == 1009


def test_a_message_that_is_not_the_first_has_the_same_limit(bridge: Bridge) -> None:
    with App(bridge.port) as app:
        for seq in range(20):
            app.say(frame(TEXT, heartbeat(seq, 9000), fin=False) + frame(CONTINUATION, b" " * 7000))
        app.lives()
        assert len(app.acked) == 21


def test_control_frames_come_between_fragments(bridge: Bridge) -> None:
    text = heartbeat(1)
    with App(bridge.port) as app:
        app.say(frame(TEXT, text[:5], fin=False) + frame(PING, b"one") + frame(CONTINUATION, text[5:9], fin=False))
        app.until("a pong", lambda: app.pongs == [b"one"])
        app.say(frame(PONG, b"x") + frame(PING) + frame(PING, b"two") + frame(CONTINUATION, text[9:]))
        app.answered(1)
        assert app.pongs == [b"one", b"", b"two"]


@pytest.mark.parametrize("place", [0, 7, len(heartbeat(1))])
def test_fragments_may_be_empty(bridge: Bridge, place: int) -> None:
    text, nothing = heartbeat(1), frame(CONTINUATION, b"", fin=False)
    with App(bridge.port) as app:
        app.say(frame(TEXT, text[:place], fin=False) + nothing * 3 + frame(CONTINUATION, text[place:], fin=False))
        app.say(nothing + frame(CONTINUATION, b""))
        app.lives(2)
        assert app.acked == [1, 2]


def test_a_message_may_come_in_fragments_of_one_byte(bridge: Bridge) -> None:
    with App(bridge.port) as app:
        for seq in range(5):
            pieces = b"".join(frame(CONTINUATION, bytes([byte]), fin=False) for byte in heartbeat(seq))
            app.say(frame(TEXT, b"", fin=False) + pieces + frame(CONTINUATION, b""))
        app.answered(0, 1, 2, 3, 4)


WRONG = {
    "a continuation of nothing": frame(CONTINUATION, b"x"),
    "a continuation of what has ended": frame(TEXT, b"{", fin=False) + frame(CONTINUATION, b"}") + frame(CONTINUATION),
    "a continuation after a whole message": beat(1) + frame(CONTINUATION, b"x", fin=False),
    "a text within a text": frame(TEXT, b"{", fin=False) + beat(1),
    "a binary within a text": frame(TEXT, b"{", fin=False) + frame(BINARY, b"x"),
    "a text within a binary": frame(BINARY, b"{", fin=False) + beat(1),
    "no mask": frame(TEXT, heartbeat(1), mask=None),
    "no mask and nothing": frame(TEXT, b"", mask=None),
    "no mask on a ping": frame(PING, b"x", mask=None),
    "no mask on a close": frame(CLOSE, b"\x03\xe8", mask=None),
    "a long ping": frame(PING, b"x" * 126),
    "a long pong": frame(PONG, b"x" * 126),
    "a long close": frame(CLOSE, b"\x03\xe8" + b"x" * 124),
    "a ping in fragments": frame(PING, b"x", fin=False),
    "a pong in fragments": frame(PONG, b"x", fin=False),
    "a close in fragments": frame(CLOSE, b"\x03\xe8", fin=False),
    **{f"opcode {opcode}": frame(opcode, b"x") for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    **{f"reserved bits {bits}": frame(TEXT, heartbeat(1), reserved=bits) for bits in range(1, 8)},
    "reserved bits on a continuation": frame(TEXT, b"{", fin=False) + frame(CONTINUATION, b"}", reserved=4),
    "reserved bits on a ping": frame(PING, b"x", reserved=1),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_frame_ends_it(bridge: Bridge, what: str) -> None:
    with App(bridge.port) as app:
        app.say(WRONG[what])
        assert app.ended() == 1002


def test_a_wrong_frame_is_answered_with_all_pongs_before_it(bridge: Bridge) -> None:
    with App(bridge.port) as app:
        app.say(frame(PING, b"one") + frame(PING, b"two") + frame(3) + frame(PING, b"three"))
        assert app.ended() == 1002
        assert app.pongs == [b"one", b"two"]


def test_a_wrong_frame_disturbs_no_other_socket_of_the_user(bridge: Bridge) -> None:
    with App(bridge.port) as bad, App(bridge.port, bad.uid) as good:
        bad.say(frame(3))
        assert bad.ended() == 1002
        good.lives()


@pytest.mark.parametrize(
    "data",
    [
        frame(BINARY, heartbeat(1)),
        frame(BINARY, b"\xef\xbb\xbf" + heartbeat(1)),
        frame(TEXT, b"\xef\xbb\xbf" + heartbeat(1)),
        frame(BINARY, heartbeat(1)[:9], fin=False) + frame(PING) + frame(CONTINUATION, heartbeat(1)[9:]),
    ],
)
def test_a_message_in_a_binary_frame_or_with_a_byte_order_mark_counts_as_any_other(bridge: Bridge, data: bytes) -> None:
    with App(bridge.port) as app:
        app.say(data)
        app.lives(2)
        assert app.told("error") == []
        assert app.acked == [1, 2]
    with App(bridge.port, subprotocol=None) as legacy:
        legacy.say(data)
        legacy.until("an answer", lambda: legacy.told("heartbeat_ack"))
        assert legacy.code == NEVER


@pytest.mark.parametrize("data", [frame(BINARY), frame(BINARY, b"\xff\x00"), frame(BINARY, b"[]"), frame(TEXT, b"hi")])
def test_what_holds_no_message_is_counted(bridge: Bridge, data: bytes) -> None:
    ignored = 'sarvis_app_messages_ignored_total{code="bad_json"}'
    before = bridge.metric(ignored)
    with App(bridge.port) as app:
        app.say(data * 3)
        app.lives(2)
        assert [error["code"] for error in app.told("error")] == ["bad_json"] * 3
        assert app.acked == [2]
        assert bridge.metric(ignored) == before + 3
    with App(bridge.port, subprotocol=None) as legacy:
        legacy.say(data + frame(TEXT, heartbeat(2)))
        legacy.until("an answer", lambda: legacy.told("heartbeat_ack"))
        legacy.say(frame(PING, b"and nothing else"))
        legacy.until("a pong", lambda: b"and nothing else" in legacy.pongs)
        assert [message["type"] for message in legacy.messages] == ["connection_established", "heartbeat_ack"]
        assert legacy.code == NEVER
