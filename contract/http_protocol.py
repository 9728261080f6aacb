"""uvicorn's HTTP/1.1, with an end to those who take a connection and do not use it.

A class for `uvicorn.Config(http=...)`. uvicorn itself waits for ever for the first byte, the rest of a header and the
rest of a body, and takes connections until none can be opened any more.
"""

import asyncio
import resource
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from contract.telemetry import get_logger

REQUEST_WITHIN_S = 20.0
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

    @classmethod
    def all_there_is(cls) -> "Room":
        """As much as the system allows this process, which is often more than it allows at first."""
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        if hard == resource.RLIM_INFINITY:
            return cls(MOST)
        return cls(hard - SPARE_FILES if hard > 2 * SPARE_FILES else hard // 2)

    def refuse(self, count: int, now: float) -> bool:
        """Is there no room for one more? Says so in the log once a minute."""
        if count < self.most:
            return False
        if now >= self._quiet_until:
            self._quiet_until = now + QUIET_S
            log.warning("no_room_for_connections", open=count, advice="let this process open more files")
        return True


class PunctualProtocol(H11Protocol):
    """Closes a connection whose request does not come within 20 s, and one for which there is no room."""

    room = Room(MOST)
    """Set it to `Room.all_there_is()` at the start of a process."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._deadline: asyncio.TimerHandle | None = None
        if self.room.refuse(len(self.connections), self.loop.time()):
            transport.abort()
        else:
            self._wait_for_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """The next request has its own time."""
        super().on_response_complete()
        self._wait_for_request()

    def _should_upgrade(self) -> bool:
        # A handshake is a GET; with another method uvicorn's WebSockets neither answer nor hang up.
        return self.scope["method"] == "GET" and super()._should_upgrade()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hand over what can be a handshake; the rest is answered with 400, uvicorn's WebSockets would fail over it."""
        if any(name.startswith(b"sec-websocket-") and not value.isascii() for name, value in self.headers):
            self.send_400_response("Invalid WebSocket handshake.")
            return
        self._stop_waiting()
        super().handle_websocket_upgrade(event)

    def _wait_for_request(self) -> None:
        self._stop_waiting()
        self._deadline = self.loop.call_later(REQUEST_WITHIN_S, self._look)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _look(self) -> None:
        waiting: tuple[Any, ...] = (h11.IDLE, h11.SEND_BODY)
        if self.conn.their_state in waiting:
            self.transport.abort()
