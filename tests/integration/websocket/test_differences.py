"""Where what speaks WebSocket does otherwise than RFC 6455 says, or than one would like; all of it is known here."""

from dataclasses import dataclass, field
from typing import TypeVar

import pytest

from tests.integration.websocket.peer import NEVER, V2, App, Peer, beat, heartbeat
from tests.support.world import Bridge, unique
from tools.fuzz.rawsocket import CLOSE, CONTINUATION, MASK, PING, TEXT, frame, handshake

GOOD_CLOSE = frame(CLOSE, b"\x03\xe8")
NO_UTF8 = frame(TEXT, b"\xff")
T = TypeVar("T")


def head(opcode: int, size: bytes) -> bytes:
    """A frame's head with this very length field."""
    return bytes([0x80 | opcode]) + size + MASK


def in_length_of_two(opcode: int, payload: bytes) -> bytes:
    """A short frame whose length takes two bytes."""
    masked = frame(opcode, payload)[2:]
    return bytes([0x80 | opcode, 0xFE]) + len(payload).to_bytes(2) + masked


def in_length_of_eight(opcode: int, payload: bytes) -> bytes:
    """A short frame whose length takes eight bytes."""
    masked = frame(opcode, payload)[2:]
    return bytes([0x80 | opcode, 0xFF]) + len(payload).to_bytes(8) + masked


def both(what: T) -> dict[str, T]:
    """Neither way can help it: the fast one leaves such frames and handshakes to the same libraries."""
    return dict.fromkeys(("fast", "plain"), what)


@dataclass(frozen=True)
class Difference:
    """What is said on an open connection; what should follow, and what does for the kinds that do otherwise."""

    said: bytes
    wanted: str
    known: dict[str, str] = field(default_factory=dict)


FRAMES = {
    # 5.2: the minimal number of bytes MUST be used. Python's `websockets` looks only at what they say.
    "a length of two bytes that has room in one": Difference(
        in_length_of_two(TEXT, heartbeat(1)), "closed with 1002", both("answered")
    ),
    "a length of eight bytes that has room in two": Difference(
        in_length_of_eight(TEXT, heartbeat(1)), "closed with 1002", both("answered")
    ),
    # 5.5: control frames have a length of 125 or less, so the other lengths are no minimal ones either.
    "a ping whose length takes two bytes": Difference(
        in_length_of_two(PING, b"x"), "closed with 1002", both("answered")
    ),
    # 5.2: the most significant bit MUST be 0. It is far beyond what is allowed in any case.
    "a length of 2^63": Difference(head(TEXT, b"\xff\x80" + bytes(7)), "closed with 1002", both("closed with 1009")),
    # 5.5: too long for a ping, before it is too long for a message.
    "a ping of 20 KiB": Difference(frame(PING, b"x" * 20_480), "closed with 1002", both("closed with 1009")),
    # 5.4: control frames may come amid a fragmented message, and a close is one.
    "a close amid a message": Difference(
        frame(TEXT, b"{", fin=False) + GOOD_CLOSE, "closed with 1000", {"plain": "closed with 1002"}
    ),
    # Autobahn's case 7.1.5: the rest of the message comes nevertheless.
    "a close amid a message, and its rest": Difference(
        frame(TEXT, b"{", fin=False) + GOOD_CLOSE + frame(CONTINUATION, b"}"),
        "closed with 1000",
        {"plain": "closed with 1002"},
    ),
    "a close with a reason amid a message": Difference(
        frame(TEXT, b"{", fin=False) + frame(CONTINUATION, b" ", fin=False) + frame(CLOSE, b"\x0f\xa0bye"),
        "closed with 4000",
        {"plain": "closed with 1002"},
    ),
    # The limit is one of a message, not of a message and the pings that come between its fragments.
    "a ping amid a message that is nearly full": Difference(
        frame(TEXT, heartbeat(1, 16_383), fin=False) + frame(PING, b"xyz") + frame(CONTINUATION, b" "),
        "answered",
        both("closed with 1009"),
    ),
    # 8.1: 1007, whatever comes behind it. uvicorn looks at a text when all that came with it has been parsed.
    "no UTF-8, and a close with it": Difference(
        NO_UTF8 + GOOD_CLOSE, "closed with 1007", {"plain": "closed with 1000"}
    ),
    "no UTF-8, and a wrong frame with it": Difference(
        NO_UTF8 + frame(3), "closed with 1007", {"plain": "closed with 1002"}
    ),
}


@pytest.mark.parametrize("what", FRAMES)
def test_frames(bridge: Bridge, kind: str, what: str) -> None:
    row = FRAMES[what]
    with App(bridge.port) as app:
        app.say(row.said)
        app.until("what follows", lambda: app.code != NEVER or app.acked or app.pongs)
        if app.code == NEVER:
            app.lives()
            result = "answered"
        else:
            result = f"closed with {app.ended()}"
    assert result == row.known.get(kind, row.wanted)


PATH = f"/ws/app/{unique('user')}/"
HANDSHAKES = {
    # 4.2.2: Sec-WebSocket-Version says in the answer which version would do.
    "another version": Difference(
        handshake(PATH, {"Sec-WebSocket-Version": "8"}), "refused, 13 would do", both("refused")
    ),
    # 4.2.1: the header includes the value. uvicorn wants nothing else there.
    "several upgrades": Difference(handshake(PATH, {"Upgrade": "h2c, websocket"}), "accepted", both("refused")),
    # RFC 9110, 5.3: several headers of a name are one list. uvicorn looks at the last one.
    "two Connection headers": Difference(
        handshake(PATH, {}, more="Connection: keep-alive\r\n"), "accepted", both("refused")
    ),
}


@pytest.mark.parametrize("what", HANDSHAKES)
def test_handshakes(bridge: Bridge, kind: str, what: str) -> None:
    row = HANDSHAKES[what]
    with Peer(bridge.port) as peer:
        peer.say(row.said)
        answer = peer.answer
    result = "accepted" if answer.status == 101 else "refused"
    if answer.values("sec-websocket-version") == ["13"]:
        result += ", 13 would do"
    assert result == row.known.get(kind, row.wanted)


def test_what_is_said_with_the_handshake_is_lost_as_a_whole(bridge: Bridge, kind: str) -> None:
    # 4.1: a client MUST wait for the answer; uvicorn does not hand on what came with the request.
    known = both([2])
    with Peer(bridge.port) as peer:
        peer.say(handshake(PATH, {"Sec-WebSocket-Protocol": V2}) + beat(1))
        assert peer.answer.status == 101
        peer.lives(2)
        assert peer.acked == known.get(kind, [1, 2])


def test_a_good_message_that_comes_with_a_wrong_frame_may_be_lost(bridge: Bridge, kind: str) -> None:
    # The RFC is silent. uvicorn forgets it, an answer would come too late anyway.
    known = {"plain": [False]}
    with App(bridge.port) as other, App(bridge.port, other.uid) as app:
        app.say(frame(TEXT, b'{"type":"logout"}') + frame(3))
        assert app.ended() in {1002, 4501}
        other.say(beat(1))
        other.until("what follows", lambda: other.acked or other.code > 0)
        assert (other.code == 4501) in known.get(kind, [True, False])
