"""uvicorn's HTTP/1.1, with an end to those who take a connection and do not use it.

A class for `uvicorn.Config(http=...)`. uvicorn itself waits for ever for the first byte, the rest of a header and the
rest of a body, keeps headers of any length, takes connections until none can be opened any more, and loses the body of
a request that offers another protocol.
"""

import asyncio
import json
import resource
from typing import cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from contract.http_reading_on import read_on
from contract.telemetry import get_logger

REQUEST_WITHIN_S = 20.0
"""From the first byte of a request to its last; a new connection has no longer for its first request."""

IDLE_S = 75
"""Between two requests: above the 60 s for which proxies keep a connection that they mean to use again.

For `uvicorn.Config(timeout_keep_alive=...)`, whose own 5 s made proxies lose requests.
"""

MAX_HEAD_BYTES = 64 * 1024
"""Request line, headers and trailers of one request, beyond the piece in which it began."""

SPARE_FILES = 256
"""Open files that are not connections: the ledger, the log, the broker, what posts go out over."""

MOST = 1 << 20
QUIET_S = 60.0

log = get_logger("http")


class Room:
    """How many connections there may be: as many files as this process may open, but for some."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._quiet_until = 0.0
        self._idle: dict[PunctualProtocol, float] = {}  # since when, the longest first

    @classmethod
    def all_there_is(cls) -> "Room":
        """As much as the system allows this process, which is often more than it allows at first."""
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        if hard == resource.RLIM_INFINITY:
            return cls(MOST)
        return cls(hard - SPARE_FILES if hard > 2 * SPARE_FILES else hard // 2)

    def refuse(self, count: int, now: float) -> bool:
        """Is there no room for one more? Says so in the log once a minute.

        One that has been idle for longer than a request may take makes room.
        """
        if count < self.most:
            return False
        longest = next(iter(self._idle.items()), None)
        if longest is not None and now - longest[1] >= REQUEST_WITHIN_S:
            longest[0].make_room()
            return False
        if now >= self._quiet_until:
            self._quiet_until = now + QUIET_S
            log.warning("no_room_for_connections", open=count, advice="let this process open more files")
        return True

    def idles(self, connection: "PunctualProtocol", now: float) -> None:
        """It waits for its next request."""
        self._idle[connection] = now

    def is_used(self, connection: "PunctualProtocol") -> bool:
        """It is idle no more; was it?"""
        return self._idle.pop(connection, None) is not None


class Gathered:
    """A transport that writes what one turn of the loop says as one: uvicorn says head and body of an answer apart."""

    __slots__ = ("_loop", "_said", "_transport")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._said: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Write soon."""
        if not self._said:
            self._loop.call_soon(self._write)
        self._said.append(data)

    def close(self) -> None:
        """Close after what was said."""
        self._write()
        self._transport.close()

    def is_closing(self) -> bool:
        """Is it closed, or about to be?"""
        return self._transport.is_closing()

    def _write(self) -> None:
        said, self._said = self._said, []
        if said and not self._transport.is_closing():
            self._transport.write(b"".join(said))


class PunctualProtocol(HttpToolsProtocol):
    """Closes a connection whose request does not come within 20 s, and one for which there is no room."""

    room = Room(MOST)
    """Set it to `Room.all_there_is()` at the start of a process."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._deadline: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._within_request = False
        if self.room.refuse(len(self.connections), self.loop.time()):
            transport.abort()
        else:
            self._wait_for_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._stop_waiting()
        self.room.is_used(self)
        super().connection_lost(exc)

    def make_room(self) -> None:
        """Go, while idle."""
        self.room.is_used(self)
        self.connections.discard(self)
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take what came; what is not body counts until the next request begins."""
        self._head_bytes += len(data)
        self._unset_keepalive_if_required()
        if self.room.is_used(self):
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
        """Raises HttpParserError. What is offered besides HTTP is a WebSocket, or not taken."""
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
        """A request begins."""
        self._head_bytes = 0
        self._within_request = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head of a request is there; raises what the parser turns into a refusal."""
        if self.parser.get_method() == b"CONNECT":
            raise ValueError("what would follow is no HTTP")
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (not hosts and self.parser.get_http_version() == "1.1"):
            raise ValueError("a request names one host")
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
        """A piece of a body, which whoever reads it counts."""
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is whole, unless only its head is: what its body is, the next parser tells."""
        if self.parser.should_upgrade() and not self._should_upgrade():
            return
        self._within_request = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The next request has its own time, from its first byte on."""
        super().on_response_complete()
        self._stop_waiting()
        if self._within_request or not self.cycle.response_complete:
            self._wait_for_request()
        elif not self.transport.is_closing():
            self.room.idles(self, self.loop.time())

    def _should_upgrade(self) -> bool:
        """Is it a WebSocket handshake? A GET of HTTP/1.1 without a body: uvicorn's WebSockets know no other."""
        is_one = self.scope["method"] == "GET" and self.scope["http_version"] == "1.1" and not self._has_body()
        return is_one and super()._should_upgrade()

    def _has_body(self) -> bool:
        return any(
            name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0") != b"")
            for name, value in self.headers
        )

    def handle_websocket_upgrade(self) -> None:
        """Hand over what can be a handshake; the rest is answered with 400, uvicorn's WebSockets would fail over it.

        Nor can it be one while an earlier request on the connection waits for its answer.

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
        take_over = getattr(self.ws_protocol_class, "take_over", None)
        if take_over is not None and take_over(self):
            self.connections.discard(self)
        else:
            super().handle_websocket_upgrade()
        self.parser = None  # type: ignore[assignment]  # a cycle, which would keep all of this until a garbage collection

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, with a reason in JSON as everywhere, and hang up."""
        body = json.dumps({"detail": msg}).encode()
        head = "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: "
        self.transport.write(b"%b%d\r\n\r\n%b" % (head.encode(), len(body), body))
        self.transport.close()

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
