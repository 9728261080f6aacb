"""WebSocket frames by the book, for what the fast way does not take: fragments, long and broken frames, the end.

The protocol is that of the package websockets, without I/O; this joins its frames to messages.
"""

from collections import deque

from websockets.frames import Frame, Opcode
from websockets.protocol import SERVER, Protocol

from bridge.app_protocol import MAX_FRAME_BYTES

MAX_FRAGMENTS = 1024
"""Of one message: empty ones cost their sender two bytes and us eight, and no limit of bytes counts them."""

INVALID_TEXT = 1007


class EndlessError(Exception):
    """The peer sends a message in more fragments than anybody needs."""


class CarefulReader:
    """What a peer sends from some frame on, and what must be written in return.

    Attributes:
        messages: those that came whole and are not carried out yet; whoever does that takes them out.
        over: nothing more is to be read, the connection ends after `output`.
    """

    def __init__(self) -> None:
        self.messages: deque[str | bytes] = deque()
        self.over = False
        self._protocol = Protocol(SERVER, max_size=MAX_FRAME_BYTES)
        self._fragments: list[bytes] = []
        self._is_text = False

    def feed(self, data: bytes) -> None:
        """Understand more bytes; raises EndlessError."""
        if self.over:
            return
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Frame) and not self.over:
                self._take(event)
        if self._protocol.parser_exc is not None or self._protocol.close_rcvd is not None:
            self.over = True

    def close(self, code: int, reason: str = "") -> None:
        """Say goodbye, unless that was done; the peer is expected to answer."""
        if self._protocol.close_sent is None:
            self._protocol.send_close(code, reason)

    def fail(self, code: int, reason: str = "") -> None:
        """Say goodbye, unless that was done, and listen no more."""
        self.close(code, reason)
        self.over = True

    def end(self) -> None:
        """The connection is gone: nothing is fed any more."""
        self.over = True
        self._protocol.parser.close()  # it and the protocol hold each other, until a garbage collection

    @property
    def output(self) -> bytes:
        """What must be written now."""
        return b"".join(self._protocol.data_to_send())

    def _take(self, frame: Frame) -> None:
        if frame.opcode is Opcode.CONT:
            if len(self._fragments) >= MAX_FRAGMENTS:
                raise EndlessError
            self._fragments.append(bytes(frame.data))
        elif frame.opcode is Opcode.TEXT or frame.opcode is Opcode.BINARY:
            self._is_text = frame.opcode is Opcode.TEXT
            self._fragments = [bytes(frame.data)]
        else:
            return  # the protocol has answered it
        if frame.fin:
            whole, self._fragments = b"".join(self._fragments), []
            try:
                self.messages.append(whole.decode() if self._is_text else whole)
            except UnicodeDecodeError:
                self.fail(INVALID_TEXT)
