"""uvicorn's HTTP/1.1 with time-outs for clients that hold a connection without using it.

A class for `uvicorn.Config(http=...)`. uvicorn itself waits for ever for the first byte, the rest of a header and the
rest of a body, accepts headers of any length, and loses the body of a request that offers another protocol.
"""

import asyncio
import contextlib
import json
from typing import cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from infra.connection_limits import Guest
from infra.web.reading_on import read_on

REQUEST_WITHIN_S = 20.0
"""From the first byte of a request to its last; also the time for the first request of a new connection."""

IDLE_S = 75
"""Between two requests: longer than the 60 s for which proxies keep connections for reuse.

For `uvicorn.Config(timeout_keep_alive=...)`, whose default of 5 s made proxies lose requests.
"""

MAX_HEAD_BYTES = 64 * 1024
"""Request line, headers and trailers of one request, beyond the chunk in which it began."""


class Gathered:
    """A transport that joins the writes of one turn of the loop: uvicorn writes head and body separately."""

    __slots__ = ("_loop", "_said", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._said: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Write after this turn of the loop."""
        if not self._said:
            self._loop.call_soon(self._write)
        self._said.append(data)

    def close(self) -> None:
        """Close after pending writes."""
        self._write()
        self._transport.close()

    def is_closing(self) -> bool:
        """Whether it is closed or about to be."""
        return self._transport.is_closing()

    def _write(self) -> None:
        said, self._said = self._said, []
        if said and not self._transport.is_closing():
            # A transport of uvloop may be closed without ever having been closing: the client is gone.
            with contextlib.suppress(RuntimeError):
                self._transport.write(b"".join(said))


class PunctualProtocol(HttpToolsProtocol):
    """Closes a connection whose request does not come within 20 s."""

    guest: Guest | None = None
    """Its entry in the connection limits, if its server has them."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time-out for the first request."""
        super().connection_made(transport)
        self._deadline: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._within_request = False
        self._wait_for_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the time-outs."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Process received bytes; bytes outside the body count until the next request begins."""
        self._head_bytes += len(data)
        self._unset_keepalive_if_required()
        if self.guest is not None and self.guest.is_used():
            self._wait_for_request()
        try:
            self._read(memoryview(data))
        except httptools.HttpParserError:
            self.logger.warning("Invalid HTTP request received.")
            self.send_400_response("Invalid HTTP request received.")
            return
        if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("Request header is too large.")

    def _read(self, data: memoryview) -> None:
        """Raises HttpParserError. A protocol other than HTTP is either a WebSocket or declined."""
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                if self._should_upgrade():
                    self.handle_websocket_upgrade()
                    return
                data = data[upgrade.args[0] :]
            else:
                return
            read_on(self)

    def on_message_begin(self) -> None:
        """A request began."""
        self._head_bytes = 0
        self._within_request = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head of a request is complete; raises an error that the parser turns into a refusal."""
        if self.parser.get_method() == b"CONNECT":
            raise ValueError("the bytes after the head are not HTTP")
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (not hosts and self.parser.get_http_version() == "1.1"):
            raise ValueError("a request must have exactly one Host header")
        if not self.url.startswith(b"/"):
            self._complete_target()
        cycle = self.cycle
        super().on_headers_complete()
        if self.cycle is not cycle:
            self.cycle.transport = cast("asyncio.Transport", Gathered(self.transport, self.loop))

    def _complete_target(self) -> None:
        """`http://host` means `http://host/`."""
        target = httptools.parse_url(self.url)
        if not target.path:
            self.url = b"/?" + target.query if target.query else b"/"

    def on_body(self, body: bytes) -> None:
        """A piece of a body; its reader counts the bytes."""
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is complete, unless only its head is: then the next parser determines its body."""
        if self.parser.should_upgrade() and not self._should_upgrade():
            return
        self._within_request = False
        self._has_asked()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The next request gets its own time-out, from its first byte on."""
        super().on_response_complete()
        self._stop_waiting()
        if self._within_request or not self.cycle.response_complete:
            self._wait_for_request()
        elif self.guest is not None and not self.transport.is_closing():
            self.guest.idles(self.loop.time())

    def _should_upgrade(self) -> bool:
        """Whether the request is a WebSocket handshake: a GET of HTTP/1.1 without a body, as uvicorn requires."""
        is_one = self.scope["method"] == "GET" and self.scope["http_version"] == "1.1" and not self._has_body()
        return is_one and super()._should_upgrade()

    def _has_body(self) -> bool:
        return any(
            name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0") != b"")
            for name, value in self.headers
        )

    def handle_websocket_upgrade(self) -> None:
        """Pass on a possible handshake; answer other upgrades with 400, because uvicorn's WebSockets would raise.

        It is not a handshake either while an earlier request on the connection is unanswered.

        A class given as `ws` may have a `take_over`, which serves this connection itself or returns False.
        """
        earlier = cast("RequestResponseCycle | None", self.cycle)
        answered = earlier is None or earlier.response_complete
        if not answered or any(
            name.startswith(b"sec-websocket-") and not value.isascii() for name, value in self.headers
        ):
            self.send_400_response("Invalid WebSocket handshake.")
            return
        self._stop_waiting()
        self._has_asked()
        take_over = getattr(self.ws_protocol_class, "take_over", None)
        if take_over is not None and take_over(self):
            self.connections.discard(self)
        else:
            super().handle_websocket_upgrade()
        self.parser = None  # type: ignore[assignment]  # a cycle, which would keep all of this until a garbage collection

    def send_400_response(self, msg: str) -> None:
        """Answer an invalid request with a reason in JSON, as everywhere, and close."""
        body = json.dumps({"detail": msg}).encode()
        head = "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: "
        self.transport.write(b"%b%d\r\n\r\n%b" % (head.encode(), len(body), body))
        self.transport.close()

    def _has_asked(self) -> None:
        """A whole request came: the connection is not asked to end before it has its answer."""
        if self.guest is not None:
            self.guest.proven()

    def _wait_for_request(self) -> None:
        self._stop_waiting()
        self._deadline = self.loop.call_later(REQUEST_WITHIN_S, self._look)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _look(self) -> None:
        cycle = cast("RequestResponseCycle | None", self.cycle)
        if cycle is None or cycle.response_complete or cycle.more_body:
            self.transport.abort()
