"""An app that says any bytes and hears every frame, in order."""

import json
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.support.waiting import PATIENCE_S
from tests.support.world import unique
from tools.fuzz.rawsocket import CLOSE, MASK, NO_CODE, PING, PONG, SHORT, TEXT, RawSocket, frame, handshake

V2 = "sarvis.v2"
HEAD_ENDS = b"\r\n\r\n"
NEVER = -1
"""No close frame came."""


@dataclass(frozen=True)
class Answer:
    """A server's HTTP head; names in lower case."""

    status: int
    headers: tuple[tuple[str, str], ...]

    def values(self, name: str) -> list[str]:
        """Of all headers of this name."""
        return [value for key, value in self.headers if key == name]


@dataclass(frozen=True)
class Said:
    """One frame of the server."""

    opcode: int
    payload: bytes

    @property
    def message(self) -> dict[str, Any]:
        """A text frame's JSON."""
        assert self.opcode == TEXT, self
        found: dict[str, Any] = json.loads(self.payload)
        return found

    @property
    def code(self) -> int:
        """A close frame's code."""
        return int.from_bytes(self.payload[:2]) if self.payload else NO_CODE


class Peer(RawSocket):
    """A TCP connection to a bridge; use it in a `with` block."""

    def __init__(self, port: int, *, receive_bytes: int | None = None) -> None:
        super().__init__(port, receive_bytes=receive_bytes)
        self._found: list[Said] = []
        self._at = 0
        self._close: Said | None = None

    @property
    def answer(self) -> Answer:
        """The head of the first answer; waits for it."""
        self.until("an answer", lambda: HEAD_ENDS in self.data)
        first, *lines = self.data.partition(HEAD_ENDS)[0].decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        return Answer(int(first.split(" ")[1]), tuple((name.lower(), value.strip()) for name, _, value in pairs))

    @property
    def frames(self) -> list[Said]:
        """What was said so far after the handshake; AssertionError for a frame that a server may not send."""
        if self._at == 0 and HEAD_ENDS in self.data:
            self._at = self.data.index(HEAD_ENDS) + len(HEAD_ENDS)
        while self._at > 0 and (found := _first_frame(self.data, self._at)):
            said, self._at = found
            assert said.opcode == PONG or self._close is None, "more than pongs after the close frame"
            self._close = said if said.opcode == CLOSE else self._close
            self._found.append(said)
        return self._found

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The texts among the frames."""
        return [said.message for said in self.frames if said.opcode == TEXT]

    def told(self, kind: str) -> list[dict[str, Any]]:
        """The messages of one type."""
        return [message for message in self.messages if message["type"] == kind]

    @property
    def acked(self) -> list[int]:
        """The `seq` of each heartbeat that was answered."""
        return [message["seq"] for message in self.told("heartbeat_ack")]

    @property
    def pongs(self) -> list[bytes]:
        """Their payloads."""
        return [said.payload for said in self.frames if said.opcode == PONG]

    @property
    def code(self) -> int:
        """The code of the close frame that came, or NEVER."""
        return self._close.code if self.frames and self._close is not None else NEVER

    def until(self, what: str, condition: Callable[[], object]) -> None:
        """Hear until it is so; AssertionError when the server hangs up first or it takes too long."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert self._hear_before(deadline, what), f"the server hung up before: {what}; heard {self.data!r}"

    def welcomed(self) -> None:
        """Hear the first frame."""
        self.until("a welcome", lambda: self.frames)

    def answered(self, *seqs: int) -> None:
        """Hear until exactly these heartbeats are answered, in this order."""
        self.until(f"answers to {seqs}", lambda: self.acked == list(seqs))

    def rung(self) -> None:
        """Hear a wake."""
        self.until("a wake", lambda: self.told("voice_command"))

    def closed(self) -> int:
        """Hear the server's close frame, perhaps before it hangs up; its code."""
        self.until("a close frame", lambda: self.code != NEVER)
        return self.code

    def ended(self) -> int:
        """Hear the server out until it hangs up, saying nothing; the code of its close frame, or NEVER."""
        deadline = time.monotonic() + PATIENCE_S
        while self.open:
            self._hear_before(deadline, "its end")
        return self.code

    def _hear_before(self, deadline: float, what: str) -> bool:
        # A server that only pings does not keep us.
        self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
        try:
            return self.hear()
        except TimeoutError:
            raise AssertionError(f"waited {PATIENCE_S:.0f} s in vain for: {what}; heard {self.data!r}") from None
        finally:
            self._socket.settimeout(PATIENCE_S)

    def lives(self, seq: int = 424242) -> None:
        """A heartbeat is answered, after everything that was on its way."""
        self.say(beat(seq))
        self.until("a heartbeat's answer", lambda: seq in self.acked)

    def shout(self, data: bytes) -> None:
        """Send; raises ConnectionError when the server has hung up."""
        self._socket.sendall(data)

    def piecemeal(self, data: bytes) -> None:
        """Send byte by byte."""
        for byte in data:
            self.say(bytes([byte]))

    def half_close(self) -> None:
        """End our side of the connection."""
        self._socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Vanish."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()


def _first_frame(data: bytes, at: int) -> tuple[Said, int] | None:
    """The frame that begins there and where the next one does; None when it is not all there."""
    if len(data) < at + 2:
        return None
    first, size, start = data[at], data[at + 1], at + 2
    opcode = first & 0x0F
    assert first & 0xF0 == 0x80, f"reserved bits or a fragment: {data[at : at + 2].hex()}"
    assert opcode in {TEXT, CLOSE, PING, PONG}, f"opcode {opcode}"
    assert not size & 0x80, "a server's frame is masked"
    if size > SHORT:
        assert opcode == TEXT, "a control frame that is too long"
        width = 2 if size == SHORT + 1 else 8
        start, size = start + width, int.from_bytes(data[start : start + width])
    end = start + size
    return (Said(opcode, data[start:end]), end) if len(data) >= end else None


class App(Peer):
    """A Peer that has been welcomed; on sarvis.v2 unless `subprotocol` is None.

    A deaf one's system keeps next to nothing of what is not read.
    """

    def __init__(self, port: int, uid: str | None = None, *, subprotocol: str | None = V2, deaf: bool = False) -> None:
        super().__init__(port, receive_bytes=4096 if deaf else None)
        self.uid = uid or unique("user")
        headers = {"Sec-WebSocket-Protocol": subprotocol} if subprotocol else {}
        self.say(handshake(f"/ws/app/{self.uid}/", headers))
        self.welcomed()
        assert self.answer.status == 101
        assert self.messages[0]["type"] == "connection_established"


def heartbeat(seq: int, size: int = 0) -> bytes:
    """A heartbeat's text, with spaces to make it so many bytes."""
    return (b'{"type":"heartbeat","seq":%d}' % seq).ljust(size)


def beat(seq: int, *, mask: bytes = MASK) -> bytes:
    """A heartbeat as one frame."""
    return frame(TEXT, heartbeat(seq), mask=mask)
