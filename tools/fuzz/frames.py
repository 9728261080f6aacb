"""Attack: WebSocket handshakes and frames as no library would write them."""

import struct
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from contract.app_socket import MAX_FRAME_BYTES
from tests.support.waiting import wait_for
from tools.fuzz.house import House, Neighbour
from tools.fuzz.payloads import payloads
from tools.fuzz.rawsocket import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Heard, RawSocket, frame, handshake
from tools.fuzz.record import Budget, Result

BATCH = 50
SILENT_AT_MOST = 40
HEARTBEAT = b'{"type":"heartbeat"}'
HANGS = "the server neither answers nor closes"
INTERNAL_ERROR = 1011
CLOSE_CODES = {1000, 1001, 1002, 1003, 1005, 1007, 1008, 1009, 1010, *range(3000, 5000)}


@dataclass(frozen=True)
class Attempt:
    """What one client does on its connection, and what the server must do."""

    kind: str
    pieces: tuple[bytes, ...]
    """Said one after another on an open WebSocket, or as the handshake itself."""
    path: str = "/ws/app/fuzz-user-0/"
    subprotocol: str | None = "sarvis.v2"
    is_handshake: bool = False
    answers: int = 0
    """The number of heartbeats that must be answered."""
    pongs: int = 0
    closes: frozenset[int] = field(default_factory=frozenset)
    """The server must close with one of these codes."""
    refused: bool = False
    silent: bool = False
    """The client says no more and stays."""


def said(kind: str, *pieces: bytes, **expected: Any) -> st.SearchStrategy[Attempt]:
    """An attempt on the documented protocol or on sarvis.v2."""
    return st.sampled_from(["sarvis.v2", None]).map(lambda name: Attempt(kind, pieces, subprotocol=name, **expected))


WRONG = frozenset({1002})
NO_TEXT = frozenset({1007})
TOO_BIG = frozenset({1009})
masks = st.binary(min_size=4, max_size=4)
BAD_TEXTS = (b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xe2\x82", b"a\x80", b"\xf0\x9f\x94")


def _flat(strategy: st.SearchStrategy[st.SearchStrategy[Attempt]]) -> st.SearchStrategy[Attempt]:
    return strategy.flatmap(lambda inner: inner)


@st.composite
def fragmented(draw: Callable[..., Any]) -> Attempt:
    """A good heartbeat in many fragments, control frames in between, its bytes in arbitrary TCP pieces."""
    text = HEARTBEAT.ljust(draw(st.sampled_from([len(HEARTBEAT), 100, 3000])))
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=40)))
    parts = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    whole, pings = b"", 0
    for place, part in enumerate(parts):
        control = draw(st.sampled_from([None, None, PING, PONG]))
        if control is not None:
            whole += frame(control, draw(st.binary(max_size=125)), mask=draw(masks))
            pings += control == PING
        opcode = CONTINUATION if place else TEXT
        whole += frame(opcode, part, fin=place == len(parts) - 1, mask=draw(masks))
    places = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=10)))
    pieces = tuple(whole[start:end] for start, end in zip([0, *places], [*places, len(whole)], strict=True))
    return Attempt("fragmented", pieces, answers=1, pongs=pings)


@st.composite
def bad_text(draw: Callable[..., Any]) -> Attempt:
    """Text that is not UTF-8, whole or split across fragments."""
    text = draw(st.sampled_from([b"", b'{"type":"', b"\xec\x8b\xb8"])) + draw(st.sampled_from(BAD_TEXTS))
    place = draw(st.integers(0, len(text)))
    if draw(st.booleans()):
        return Attempt("bad UTF-8", (frame(TEXT, text),), closes=NO_TEXT)
    parts = frame(TEXT, text[:place], fin=False) + frame(CONTINUATION, text[place:])
    return Attempt("bad UTF-8, split", (parts,), closes=NO_TEXT)


wrong_frames: st.SearchStrategy[Attempt] = st.one_of(
    said("no mask", frame(TEXT, HEARTBEAT, mask=None), closes=WRONG),
    said("no mask on a ping", frame(PING, b"", mask=None), closes=WRONG),
    _flat(
        st.integers(1, 7).map(lambda bits: said("reserved bits", frame(TEXT, HEARTBEAT, reserved=bits), closes=WRONG))
    ),
    _flat(
        st.sampled_from([3, 4, 5, 6, 7, 11, 12, 13, 14, 15]).map(
            lambda opcode: said("reserved opcode", frame(opcode, b"x"), closes=WRONG)
        )
    ),
    _flat(
        st.sampled_from([PING, PONG, CLOSE]).map(
            lambda opcode: said("fragmented control frame", frame(opcode, b"", fin=False), closes=WRONG)
        )
    ),
    _flat(
        st.tuples(st.sampled_from([PING, PONG, CLOSE]), st.sampled_from([126, 200, 5000, 70_000])).map(
            lambda one: said("long control frame", frame(one[0], b"\x03\xe8" + b"x" * one[1]), closes=WRONG | TOO_BIG)
        )
    ),
    said("a continuation of nothing", frame(CONTINUATION, b"x"), closes=WRONG),
    said("a text within a text", frame(TEXT, b"{", fin=False) + frame(TEXT, b"}"), closes=WRONG),
    _flat(
        st.sampled_from([MAX_FRAME_BYTES + 1, 70_000, 200_000]).map(
            lambda size: said("over 16 KiB", frame(TEXT, b"x" * size), closes=TOO_BIG)
        )
    ),
    _flat(
        st.sampled_from([100, 1000, 9000]).map(
            lambda size: said(
                "over 16 KiB in fragments",
                frame(TEXT, b"x" * size, fin=False)
                + b"".join(frame(CONTINUATION, b"x" * size, fin=False) for _ in range(MAX_FRAME_BYTES // size)),
                closes=TOO_BIG,
            )
        )
    ),
    _flat(
        st.sampled_from([2**20, 2**31, 2**62]).map(
            lambda size: said("announces far too much", frame(BINARY, b"x", announced=size), closes=TOO_BIG)
        )
    ),
    said("announces 2**63", frame(TEXT, b"x", announced=2**63), closes=WRONG | TOO_BIG),
)

closings: st.SearchStrategy[Attempt] = st.one_of(
    _flat(
        st.sampled_from([0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535]).map(
            lambda code: said("a close code that may not be", frame(CLOSE, struct.pack("!H", code)), closes=WRONG)
        )
    ),
    said("a close of one byte", frame(CLOSE, b"\x03"), closes=WRONG),
    said("a close reason that is not UTF-8", frame(CLOSE, b"\x03\xe8\xff"), closes=frozenset({1002, 1007})),
    said("a good close and more", frame(CLOSE, b"\x03\xe8") + frame(TEXT, HEARTBEAT) * 50, closes=frozenset({1000})),
    said("an empty close", frame(CLOSE), closes=frozenset({1000, 1005})),
)

floods: st.SearchStrategy[Attempt] = st.one_of(
    _flat(st.integers(1, 300).map(lambda count: said("pings", frame(PING, b"p" * 125) * count, pongs=count))),
    _flat(st.integers(1, 300).map(lambda count: said("pongs", frame(PONG, b"p" * 125) * count))),
    _flat(st.integers(1, 200).map(lambda count: said("empty texts", frame(TEXT) * count))),
    _flat(st.integers(1, 100).map(lambda count: said("heartbeats", frame(TEXT, HEARTBEAT) * count, answers=count))),
    _flat(
        st.integers(1, 2000).map(
            lambda count: said(
                "empty fragments", frame(TEXT, b"", fin=False) + frame(CONTINUATION, b"", fin=False) * count
            )
        )
    ),
)

messages: st.SearchStrategy[Attempt] = st.tuples(
    st.sampled_from([TEXT, TEXT, TEXT, BINARY]), st.lists(payloads("frame"), min_size=1, max_size=5), st.booleans()
).map(
    lambda one: Attempt(
        "messages", tuple(frame(one[0], payload) for payload in one[1]), subprotocol="sarvis.v2" if one[2] else None
    )
)

silences: st.SearchStrategy[Attempt] = st.one_of(
    _flat(st.integers(1, 25).map(lambda size: said("half a frame", frame(TEXT, HEARTBEAT)[:size], silent=True))),
    said("half a message", frame(TEXT, b"{", fin=False), silent=True),
    said("nothing", silent=True),
    st.integers(1, 180).map(
        lambda size: Attempt("half a handshake", (handshake("/ws/app/x/", {})[:size],), is_handshake=True, silent=True)
    ),
)

noise: st.SearchStrategy[Attempt] = st.one_of(
    st.lists(st.binary(min_size=1, max_size=200), min_size=1, max_size=5).map(
        lambda pieces: Attempt("random bytes", tuple(pieces))
    ),
    st.binary(min_size=1, max_size=300).map(lambda data: Attempt("random handshake", (data,), is_handshake=True)),
)


def _handshake(kind: str, request: bytes, *, refused: bool = False) -> Attempt:
    return Attempt(kind, (request,), is_handshake=True, refused=refused)


PATH = "/ws/app/fuzz-user-1/"
handshakes: st.SearchStrategy[Attempt] = st.one_of(
    st.sampled_from(["Sec-WebSocket-Key", "Sec-WebSocket-Version", "Upgrade", "Connection", "Host"]).map(
        lambda name: _handshake(f"without {name}", handshake(PATH, {}, leave_out=name), refused=name != "Host")
    ),
    st.sampled_from(["0", "8", "12", "14", "255", "-1", "x", "13, 8", ""]).map(
        lambda version: _handshake("wrong version", handshake(PATH, {"Sec-WebSocket-Version": version}), refused=True)
    ),
    st.sampled_from(["", "x", "AAAA", "=" * 24, "dGhlIHNhbXBsZSBub25jZQ", "A" * 5000, "\xff", "\xec\x8b\xb8"]).map(
        lambda key: _handshake("wrong key", handshake(PATH, {"Sec-WebSocket-Key": key}), refused=True)
    ),
    st.sampled_from(["Sec-WebSocket-Key: x", "Sec-WebSocket-Version: 8", "Upgrade: h2c", "Host: b"]).map(
        lambda line: _handshake("a header twice", handshake(PATH, {}, more=f"{line}\r\n"))
    ),
    st.tuples(
        st.sampled_from(
            ["Origin", "Upgrade", "Connection", "X-Any", "Cookie", "User-Agent", "Sec-WebSocket-Extensions"]
        ),
        st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=30),
    ).map(lambda one: _handshake(f"any {one[0]}", handshake(PATH, {one[0]: one[1]}))),
    st.sampled_from([10_000, 70_000, 300_000]).map(
        lambda size: _handshake("a huge header", handshake(PATH, {}, more=f"X-Huge: {'x' * size}\r\n"))
    ),
    st.sampled_from([100, 3000]).map(
        lambda count: _handshake("many headers", handshake(PATH, {}, more="X-Many: x\r\n" * count))
    ),
    st.sampled_from(
        [
            ", ".join(f"p{number}" for number in range(500)),
            "sarvis.v2, sarvis.v2",
            ",,,",
            "sarvis.v2,",
            "\xff",
            " ",
            "a b",
            "x" * 5000,
            "sarvis.v2;q=1",
            "SARVIS.V2",
            '"sarvis.v2"',
        ]
    ).map(lambda names: _handshake("subprotocols", handshake(PATH, {"Sec-WebSocket-Protocol": names}))),
    st.sampled_from(
        ["permessage-deflate; client_max_window_bits=99", "x" * 3000, 'a;b;c="', ",", "permessage-deflate"]
    ).map(lambda names: _handshake("extensions", handshake(PATH, {"Sec-WebSocket-Extensions": names}))),
    st.sampled_from(
        [
            "/ws/app//",
            "/ws/app/",
            "/ws/app",
            "/ws/app/a/b/",
            "/ws/app/%2F/",
            "/ws/app/%00/",
            "/ws/app/%ff%fe/",
            "/ws/app/%/",
            "/ws/app/" + "u" * 129,
            "/ws/app/" + "u" * 60_000,
            "/ws/app/x/?client=" + "c" * 65,
            "/ws/app/x/?client=",
            "/ws/app/x/?client=%00",
            "/ws/app/x/?client=%ff",
            "/ws/app/x/?client=a&client=b",
            "/ws/app/..%2f..",
            "/ws/app/x/?",
            "/ws/app/x/?token=" + "t" * 5000,
            "/ws/app/%EC%8B%B8/",
            "/ws/app/\xec\x8b/",
            "*",
            "//",
            "/ws/app/x/#y",
            "/ws/app/%F0%9F%94%94/",
            "/ws/app/%ed%a0%80/",
            "/ws/app/%E2%80%AE/",
            "/livez",
            "/metrics",
            "/api/auth/logout",
        ]
    ).map(lambda path: _handshake("paths", handshake(path, {}))),
    st.sampled_from([b"POST", b"HEAD", b"BREW", b"CONNECT"]).map(
        lambda method: _handshake("methods", handshake(PATH, {}).replace(b"GET", method), refused=True)
    ),
    st.sampled_from([b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/9.9", b"HTTX/1.1"]).map(
        lambda version: _handshake("HTTP versions", handshake(PATH, {}).replace(b"HTTP/1.1", version))
    ),
    st.sampled_from([b"\n", b"\r", b"\r\n\r\n", b"\0"]).map(
        lambda end: _handshake("line ends", handshake(PATH, {}).replace(b"\r\n", end, 2))
    ),
    st.sampled_from(["chunked", "gzip, chunked", "identity"]).map(
        lambda coding: _handshake("a body", handshake(PATH, {"Transfer-Encoding": coding}) + b"5\r\nhello\r\n0\r\n\r\n")
    ),
    st.sampled_from(["5", "-1", "999999999999999999999", "5, 5", "x"]).map(
        lambda size: _handshake("a length", handshake(PATH, {"Content-Length": size}) + b"hello")
    ),
)

attempts: st.SearchStrategy[Attempt] = st.one_of(
    fragmented(), bad_text(), wrong_frames, closings, floods, messages, silences, noise, handshakes
)


def attack(house: House, budget: Budget, headers: Mapping[str, str] | None = None) -> Result:
    """Try handshakes and frames against a bridge while a neighbour beats; its count of connections must come back."""
    result = Result("frames")
    watch = house.watched()
    hung: set[str] = set()
    with Neighbour(house.bridge, house.broker) as neighbour, ExitStack() as silent:
        neighbour.settle(result)
        before = house.bridge.metric("sarvis_app_connections")
        waiting: list[RawSocket] = []
        for batch in budget.batches(attempts, BATCH):
            for attempt in batch:
                if attempt.kind in hung:  # once is enough: each costs the whole patience
                    continue
                result.inputs += 1
                with RawSocket(house.bridge.port) as raw:
                    for fault in try_one(raw, attempt, headers or {}):
                        result.found("server_error" if fault.startswith("5xx") else "broken", fault, attempt)
                        hung |= {attempt.kind} if fault.endswith(HANGS) else set()
                if attempt.silent and len(waiting) < SILENT_AT_MOST:
                    waiting.append(silent.enter_context(RawSocket(house.bridge.port)))
                    _begin(waiting[-1], attempt, headers or {})
                alive = watch.look(result, attempt)
                if not alive:
                    return result
            if not neighbour.settle(result, batch[-1]):
                return result
        silent.close()
        try:
            wait_for(
                "the bridge's count of connections is what it was",
                lambda: house.bridge.metric("sarvis_app_connections") == before,
            )
        except AssertionError as error:
            now = house.bridge.metric("sarvis_app_connections")
            result.found("broken", f"{error}: {before:.0f} before, {now:.0f} now")
        neighbour.settle(result)
        result.notes.append(neighbour.note())
    watch.look(result, "the end")
    return result


def _begin(raw: RawSocket, attempt: Attempt, headers: Mapping[str, str]) -> None:
    if not attempt.is_handshake:
        more = {"Sec-WebSocket-Protocol": attempt.subprotocol} if attempt.subprotocol else {}
        raw.say(handshake(attempt.path, {**more, **headers}))
        while raw.open and not _is_decided(Heard.of(raw.data)):
            raw.hear()
    for piece in attempt.pieces:
        raw.say(piece)


def _is_decided(heard: Heard) -> bool:
    """The handshake was accepted and greeted, or refused."""
    return heard.status not in {0, 101} or heard.count("connection_established") > 0 or heard.close_code is not None


def try_one(raw: RawSocket, attempt: Attempt, headers: Mapping[str, str]) -> list[str]:
    """Carry it out on a fresh connection; what the server did wrong."""
    try:
        _begin(raw, attempt, headers)
        while raw.open and not _enough(attempt, Heard.of(raw.data)):
            raw.hear()
        raw.finish()
    except TimeoutError:
        return [f"{attempt.kind}: {HANGS}"]
    return _judge(attempt, Heard.of(raw.data))


def _enough(attempt: Attempt, heard: Heard) -> bool:
    """All that must come has come."""
    if attempt.refused:
        return heard.status != 0
    return (
        heard.count("heartbeat_ack") >= attempt.answers
        and heard.pongs >= attempt.pongs
        and (heard.close_code is not None or not attempt.closes)
    )


def _judge(attempt: Attempt, heard: Heard) -> list[str]:
    faults = [f"{attempt.kind}: {fault}" for fault in heard.faults]
    if heard.status >= 500 or heard.close_code == INTERNAL_ERROR:
        faults.append(f"5xx: {attempt.kind}: status {heard.status}, close code {heard.close_code}")
    if not attempt.is_handshake and heard.status != 101:
        faults.append(f"{attempt.kind}: status {heard.status} for a good handshake")
    if attempt.refused and heard.status == 101:
        faults.append(f"{attempt.kind}: a wrong handshake was accepted")
    if attempt.closes and heard.close_code not in attempt.closes:
        faults.append(f"{attempt.kind}: closed with {heard.close_code} instead of {sorted(attempt.closes)}")
    if heard.close_code is not None and heard.close_code not in CLOSE_CODES:
        faults.append(f"{attempt.kind}: the server closed with {heard.close_code}")
    if heard.count("heartbeat_ack") < attempt.answers:
        faults.append(f"{attempt.kind}: a good heartbeat was not answered")
    if heard.pongs < attempt.pongs:
        faults.append(f"{attempt.kind}: a ping was not answered")
    return faults
