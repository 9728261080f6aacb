"""Reads unusual WebSocket frames: fragments, long or broken frames, the closing handshake.

The protocol is that of the package websockets, without I/O; this module joins its frames to messages.
"""

from codecs import getincrementaldecoder
from collections import deque

from websockets.frames import Frame, Opcode
from websockets.protocol import SERVER, Protocol

from contract.app_socket import LOST, MAX_FRAME_BYTES

MAX_FRAGMENTS = 1024
"""Fragments of one message: an empty one costs its sender two bytes and us eight, and no limit of bytes counts it."""

INVALID_TEXT = 1007

_Utf8 = getincrementaldecoder("utf-8")


class EndlessError(Exception):
    """The peer sends a message in too many fragments."""


class _Frames(Protocol):
    """The package's protocol, which lets a close come between the fragments of a message.

    RFC 6455, 5.4, allows that to any control frame; the package answers it with 1002 instead of the peer's code.
    """

    def recv_frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.CLOSE:
            self.cur_size = None  # the rest of the message will not come
        super().recv_frame(frame)


def is_never_text(beginning: bytes) -> bool:
    """Whether no UTF-8 begins so."""
    try:
        _Utf8().decode(beginning)
    except UnicodeDecodeError:
        return True
    return False


class FrameReader:
    """The input of a peer from some frame on, and the output in return.

    Attributes:
    messages: complete messages that are not carried out yet; the caller removes them.
    over: nothing more is to be read, the connection ends after `output`.
    """

    def __init__(self) -> None:
        self.messages: deque[str | bytes] = deque()
        self.over = False
        self._protocol = _Frames(SERVER, max_size=MAX_FRAME_BYTES)
        self._fragments: list[bytes] = []
        self._utf8 = _Utf8()
        self._is_text = False

    def feed(self, data: bytes) -> None:
        """Parse more bytes; raises EndlessError."""
        if self.over:
            return
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Frame) and not self.over:
                self._take(event)
        if self._protocol.parser_exc is not None or self._protocol.close_rcvd is not None:
            self.over = True

    def close(self, code: int, reason: str = "") -> None:
        """Send a close frame, unless that was done; the peer is expected to answer."""
        if self._protocol.close_sent is None:
            self._protocol.send_close(code, reason)

    def fail(self, code: int, reason: str = "") -> None:
        """Send a close frame, unless that was done, and ignore further input."""
        self.close(code, reason)
        self.over = True

    def end(self) -> None:
        """The connection is gone: no bytes follow."""
        self.over = True
        self._protocol.parser.close()  # it and the protocol refer to each other until a garbage collection

    @property
    def code(self) -> int:
        """The close code of the first close frame, of either side; 1006 if there is none."""
        close = self._protocol.close_rcvd or self._protocol.close_sent
        return LOST if close is None else close.code

    @property
    def output(self) -> bytes:
        """The bytes to write now."""
        return b"".join(self._protocol.data_to_send())

    def _take(self, frame: Frame) -> None:
        if frame.opcode is Opcode.CONT:
            if len(self._fragments) >= MAX_FRAGMENTS:
                raise EndlessError
        elif frame.opcode is Opcode.TEXT or frame.opcode is Opcode.BINARY:
            self._is_text = frame.opcode is Opcode.TEXT
            self._fragments, self._utf8 = [], _Utf8()
        else:
            return  # the protocol has answered it
        self._fragments.append(bytes(frame.data))
        if self._is_text:
            try:
                self._utf8.decode(frame.data, frame.fin)  # now, because the rest may never come
            except UnicodeDecodeError:
                self.fail(INVALID_TEXT)
                return
        if frame.fin:
            whole, self._fragments = b"".join(self._fragments), []
            self.messages.append(whole.decode() if self._is_text else whole)
