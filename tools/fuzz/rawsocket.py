"""WebSocket frames of the client's side, right or wrong, and what the server says as bytes."""

import contextlib
import json
import socket
import struct
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from tests.support.waiting import PATIENCE_S
from tests.support.world import HOST

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
MASK = b"\x37\xfa\x21\x3d"
SHORT, MEDIUM = 125, 65535
NO_CODE = 1005


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    reserved: int = 0,
    mask: bytes | None = MASK,
    announced: int | None = None,
) -> bytes:
    """One frame; `announced` is the length it claims instead of its own, `mask` None leaves the mask out."""
    size = len(payload) if announced is None else announced
    masked = 0x80 if mask is not None else 0
    head = bytes([fin << 7 | reserved << 4 | opcode])
    if size <= SHORT:
        head += bytes([masked | size])
    elif size <= MEDIUM:
        head += struct.pack("!BH", masked | 126, size)
    else:
        head += struct.pack("!BQ", masked | 127, size)
    if mask is None:
        return head + payload
    return head + mask + bytes(byte ^ mask[place % 4] for place, byte in enumerate(payload))


def handshake(path: str, headers: dict[str, str], *, leave_out: str = "", more: str = "") -> bytes:
    """A request to become a WebSocket; a header can be left out, and anything added."""
    wanted = {
        "Host": HOST,
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": KEY,
        "Sec-WebSocket-Version": "13",
        **headers,
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in wanted.items() if name != leave_out)
    return f"GET {path} HTTP/1.1\r\n{lines}{more}\r\n".encode("latin-1")


@dataclass
class Heard:
    """What a server said: its status line's number (0 if it said none), its frames, and what was no frame."""

    status: int = 0
    messages: list[dict[str, Any]] = field(default_factory=list)
    pongs: int = 0
    close_code: int | None = None
    faults: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, data: bytes) -> "Heard":
        """Understand a server's bytes; an unfinished frame at their end is none of its faults."""
        heard = cls()
        head, separator, rest = data.partition(b"\r\n\r\n")
        if not separator:
            heard.faults += ["no whole HTTP answer"] if data else []
            return heard
        if not head.startswith(b"HTTP/1.1 ") or not head[9:12].isdigit():
            heard.faults.append("no status line")
            return heard
        heard.status = int(head[9:12])
        if heard.status == 101:
            heard._frames(rest)
        return heard

    def _frames(self, rest: bytes) -> None:
        while len(rest) >= 2:
            first, size, start = rest[0], rest[1], 2
            if size & 0x80 or first & 0x70 or first & 0x0F not in {TEXT, CLOSE, PING, PONG} or not first & 0x80:
                self.faults.append(f"a frame of the server that begins with {rest[:2].hex()}")
                return
            if size > SHORT:
                width = 2 if size == 126 else 8
                start, size = 2 + width, int.from_bytes(rest[2 : 2 + width])
            payload, rest, whole = rest[start : start + size], rest[start + size :], len(rest) >= start + size
            if not whole:
                return
            self._take(first & 0x0F, payload)

    def _take(self, opcode: int, payload: bytes) -> None:
        if self.close_code is not None:
            self.faults.append("a frame after the close frame")
        if opcode == TEXT:
            try:
                self.messages.append(json.loads(payload))
            except ValueError:
                self.faults.append("a message that is no JSON")
        elif opcode == PONG:
            self.pongs += 1
        elif opcode == CLOSE:
            self.close_code = int.from_bytes(payload[:2]) if payload else NO_CODE
            if payload and (len(payload) == 1 or self.close_code == NO_CODE):
                self.faults.append(f"a close frame that says {payload[:2].hex()}")

    def count(self, kind: str) -> int:
        """How many messages of a type came."""
        return sum(message.get("type") == kind for message in self.messages)


class RawSocket:
    """A TCP connection that says any bytes; everything heard stays in `data`.

    `receive_bytes` bounds what the system keeps of what is not read.
    """

    def __init__(self, port: int, *, receive_bytes: int | None = None) -> None:
        self.data = b""
        self.open = True
        self._socket = socket.socket()
        if receive_bytes is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self._socket.settimeout(PATIENCE_S)
        self._socket.connect((HOST, port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def say(self, data: bytes) -> None:
        """Send; without effect when the server has hung up."""
        with contextlib.suppress(ConnectionError):
            self._socket.sendall(data)

    def hear(self) -> bool:
        """Read once; False at the end. Raises TimeoutError when nothing comes."""
        try:
            data = self._socket.recv(65536)
        except ConnectionError:
            data = b""
        self.data += data
        self.open = bool(data)
        return self.open

    def finish(self) -> None:
        """Send no more and hear the server out; raises TimeoutError when it does not hang up."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        while self.open and self.hear():
            pass
