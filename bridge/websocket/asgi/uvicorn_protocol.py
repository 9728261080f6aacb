"""uvicorn's WebSocket with bounds on peers that do not read or send too much.

uvicorn closes a connection only after all unsent bytes were read, which such a peer never does.
"""

import contextlib
from collections.abc import Callable
from typing import cast

from starlette.websockets import WebSocket
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState
from websockets.frames import Frame

from bridge.apps.connection import MAX_UNSENT_BYTES

MAX_FRAGMENTS = 1024
"""Fragments of one message: an empty one costs its sender two bytes and us eight, and no limit of bytes counts it."""

END_WITHIN_S = 5.0
_ABORT = "sarvis.abort"
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class AbortableProtocol(WebSocketsSansIOProtocol):
    """Passes the transport's `abort` to the application, and uses it where the application has no control."""

    def data_received(self, data: bytes) -> None:
        """Process received bytes, and answer a malformed head, which uvicorn would leave unanswered."""
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self.transport.write(_TOO_LARGE)
            self.transport.close()

    async def run_asgi(self) -> None:
        """Serve this connection."""
        self.scope["extensions"][_ABORT] = {"abort": self.transport.abort}
        await super().run_asgi()

    def handle_ping(self) -> None:
        """Answer, if the peer has read the answers to its earlier pings."""
        super().handle_ping()
        if self.transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            self.transport.abort()

    def handle_cont(self, event: Frame) -> None:
        """Process one more fragment of a message."""
        if len(self.frames) >= MAX_FRAGMENTS:
            self.transport.abort()
        else:
            super().handle_cont(event)

    def keepalive_timeout(self) -> None:
        """The peer has not answered a ping: it will not read a close frame either."""
        super().keepalive_timeout()
        self.transport.abort()

    def send_receive_event_to_app(self) -> None:
        """Pass on a whole message; if it is not UTF-8 and the peer closed after it, that close is answered."""
        with contextlib.suppress(InvalidState):
            super().send_receive_event_to_app()

    def handle_close(self, event: Frame) -> None:
        """The peer closes."""
        super().handle_close(event)
        self._end_soon()

    def handle_parser_exception(self) -> None:
        """The peer did not speak the WebSocket protocol."""
        super().handle_parser_exception()
        self._end_soon()

    def shutdown(self) -> None:
        """The server stops."""
        super().shutdown()
        self._end_soon()

    def _end_soon(self) -> None:
        if self.transport.get_write_buffer_size():
            self.loop.call_later(END_WITHIN_S, self.transport.abort)


def abort(websocket: WebSocket) -> None:
    """Drop the connection at once, with unsent bytes; does nothing under another server."""
    extension = websocket.scope.get("extensions", {}).get(_ABORT)
    if extension is not None:
        drop = cast("Callable[[], None]", extension["abort"])
        drop()
