"""Streams of frames, good ones with at most one fault, and what a server must say to them.

The judge is the parser of Python's `websockets` with the RFC's rule for texts; it is asked frame by frame, so that it
does not matter how a stream is cut. Where it does otherwise than the RFC (test_differences), nothing is made here.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN, SERVER, Protocol

from bridge.apps.protocol import Heartbeat, Refused, parse
from contract.app_socket import MAX_FRAME_BYTES
from tests.integration.websocket.peer import NEVER, beat, heartbeat
from tools.fuzz.rawsocket import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame

INVALID_TEXT = 1007
RESERVED_OPCODES = (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
CONTROLS = (PING, PONG, CLOSE)
CODES = (1000, 1001, 1003, 1008, 1011, 3000, 4000, 4999)
NO_CODES = (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)
NO_UTF8 = (b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xe2\x82", b"a\x80", b"\xf0\x9f\x94")

Frames = tuple[bytes, ...]
Draw = Callable[..., Any]


@dataclass(frozen=True)
class Stream:
    """What a client says, frame by frame, and where it is cut into pieces."""

    frames: Frames
    cuts: tuple[int, ...] = ()
    part: bytes = b""
    """The beginning of one more frame."""

    @property
    def pieces(self) -> list[bytes]:
        """What is sent at once."""
        whole = b"".join(self.frames) + self.part
        places = [0, *sorted(place % (len(whole) + 1) for place in self.cuts), len(whole)]
        return [whole[start:end] for start, end in pairwise(places) if start < end]


@dataclass
class Reply:
    """What a server says: each pong, the answers to messages, a close code or NEVER."""

    pongs: list[bytes] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    code: int = NEVER


def judge(stream: Stream) -> Reply:
    """What must be said on sarvis.v2."""
    reply = Reply()
    parser = Protocol(SERVER, state=OPEN, max_size=MAX_FRAME_BYTES)
    opcode, message = Opcode.TEXT, b""
    for data in stream.frames:
        parser.receive_data(data)
        for event in parser.events_received():
            assert isinstance(event, Frame)
            if event.opcode is Opcode.PING:
                reply.pongs.append(bytes(event.data))
            elif event.opcode in {Opcode.TEXT, Opcode.BINARY, Opcode.CONT}:
                if event.opcode is not Opcode.CONT:
                    opcode, message = event.opcode, b""
                message += event.data
                if event.fin and not _take(reply, opcode, message):
                    return reply
        if parser.close_sent is not None:
            reply.code = parser.close_sent.code
            break
    return reply


def _take(reply: Reply, opcode: Opcode, message: bytes) -> bool:
    """Answer a whole message; False when it ends the connection."""
    if opcode is Opcode.BINARY:
        told = parse("v2", message)
    else:
        try:
            told = parse("v2", message.decode())
        except UnicodeDecodeError:
            reply.code = INVALID_TEXT
            return False
    match told:
        case Heartbeat(seq):
            reply.answers.append(f"ack {seq}")
        case Refused(code):
            reply.answers.append(f"error {code}")
        case _:
            raise AssertionError(f"no such message is made here: {told}")
    return True


masks = st.binary(min_size=4, max_size=4)
controls = st.builds(
    lambda opcode, payload, mask: frame(opcode, payload, mask=mask),
    st.sampled_from([PING, PONG]),
    st.one_of(st.binary(max_size=10), st.integers(100, 125).map(bytes)),
    masks,
)
heartbeats = st.builds(
    heartbeat, st.integers(0, 9999), st.sampled_from([0, 0, 0, 125, 126, 127, 1000, 9000, MAX_FRAME_BYTES])
)
payloads = st.one_of(
    st.tuples(st.just(TEXT), heartbeats),
    st.tuples(st.just(TEXT), st.text(max_size=40).map(lambda text: b'{"type":"' + text.encode())),
    st.tuples(st.just(BINARY), st.binary(max_size=200)),
)


@st.composite
def messages(draw: Draw) -> Frames:
    """A whole message in fragments, control frames between them."""
    opcode, payload = draw(payloads)
    # A control frame counts for the parser as if it were part of a message: none where there is no room.
    between = st.lists(controls, max_size=2) if len(payload) < MAX_FRAME_BYTES - 125 else st.just([])
    cuts = sorted(draw(st.lists(st.integers(0, len(payload)), max_size=4)))
    parts = [payload[start:end] for start, end in zip([0, *cuts], [*cuts, len(payload)], strict=True)]
    frames: list[bytes] = []
    for place, part in enumerate(parts):
        frames += draw(between) if place else []
        fin = place == len(parts) - 1
        frames.append(frame(CONTINUATION if place else opcode, part, fin=fin, mask=draw(masks)))
    return tuple(frames)


wrong = st.one_of(
    st.builds(lambda opcode: frame(opcode, b"x"), st.sampled_from(RESERVED_OPCODES)),
    st.builds(lambda bits: frame(TEXT, b"x", reserved=bits), st.integers(1, 7)),
    st.builds(lambda opcode: frame(opcode, b"", fin=False), st.sampled_from(CONTROLS)),
    st.builds(
        lambda opcode, size: frame(opcode, b"\x03\xe8".ljust(size, b"x")),
        st.sampled_from(CONTROLS),
        st.sampled_from([126, 127, 300, 9000]),
    ),
    st.builds(lambda opcode: frame(opcode, b"x", mask=None), st.sampled_from([TEXT, BINARY, PING, CLOSE])),
)
"""Also amid a message."""

closings = st.one_of(
    st.builds(
        lambda code, reason: frame(CLOSE, struct.pack("!H", code) + reason.encode()),
        st.sampled_from(CODES),
        st.text(max_size=20),
    ),
    st.builds(lambda code: frame(CLOSE, struct.pack("!H", code)), st.sampled_from(NO_CODES)),
    st.just(frame(CLOSE, b"\x03")),
)
faults: st.SearchStrategy[Frames] = st.one_of(
    st.tuples(wrong),
    st.tuples(st.just(frame(TEXT, b"{", fin=False)), wrong),
    st.tuples(st.just(frame(TEXT, b"{", fin=False)), st.sampled_from([frame(TEXT, b"{}"), frame(BINARY, b"x")])),
    st.tuples(st.builds(lambda fin: frame(CONTINUATION, b"x", fin=fin), st.booleans())),
    st.tuples(st.sampled_from([MAX_FRAME_BYTES + 1, 20_000, 70_000]).map(lambda size: frame(TEXT, b" " * size))),
    st.integers(1, MAX_FRAME_BYTES).map(
        lambda size: (
            frame(TEXT, b" " * size, fin=False),
            frame(CONTINUATION, b" " * (MAX_FRAME_BYTES + 1 - size), fin=False),
        )
    ),
    st.tuples(closings),
)


@st.composite
def bad_texts(draw: Draw) -> Frames:
    """A text that is no UTF-8, whole or in two fragments."""
    text = draw(st.sampled_from([b"", b'{"type":"', "싸비스".encode()])) + draw(st.sampled_from(NO_UTF8))
    if draw(st.booleans()):
        return (frame(TEXT, text),)
    place = draw(st.integers(0, len(text)))
    return (frame(TEXT, text[:place], fin=False), frame(CONTINUATION, text[place:]))


def _joined(items: list[Frames]) -> Frames:
    return tuple(one for item in items for one in item)


good = st.lists(st.one_of(messages(), st.tuples(controls)), max_size=6).map(_joined)


@st.composite
def streams(draw: Draw) -> Stream:
    """Good frames, then perhaps a fault and more that must not count."""
    frames: Frames = draw(good)
    part = b""
    match draw(st.sampled_from(["fault", "fault", "bad text", "part", "good"])):
        case "fault":
            frames += draw(faults) + draw(good)
        case "bad text":
            # Only what has no answer of its own: uvicorn looks at texts after it has answered pings behind them.
            frames += draw(bad_texts()) + (beat(1),) * draw(st.integers(0, 3))
        case "part":
            whole = beat(1)
            part = whole[: draw(st.integers(1, len(whole) - 1))]
    return Stream(frames, tuple(draw(st.lists(st.integers(0, 100_000), max_size=6))), part)
