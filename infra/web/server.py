"""What every HTTP server shares: its address, its limits, signals."""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn

from contract.errors import StartError
from infra.accepting import Acceptor
from infra.connection_limits import ConnectionLimits, Guest
from infra.host_port import host_port
from infra.open_files import for_connections, raise_limit
from infra.telemetry import get_logger

BACKLOG = 2048
HANDSHAKE_WITHIN_S = 10.0
TICK_S = 1.0

log = get_logger("http")


def listen(who: str, host: str, port: int, *, option: str) -> socket.socket:
    """A listening TCP socket that the caller closes; raises StartError that names the port and the option to use."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only if the protocol number is given: otherwise answers wait 40 ms for a delayed
    # acknowledgement.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        # From here on clients can connect to the address, and no other program can take it.
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise StartError(
            f"{who} cannot listen on {host} port {port}: {error.strerror or error}; "
            f"stop what uses it or choose another with {option}"
        ) from None
    sock.setblocking(False)
    return sock


def address(sock: socket.socket) -> str:
    """`host:port` of a bound socket."""
    return host_port(*sock.getsockname()[:2])


class Server(uvicorn.Server):
    """uvicorn with our own signal handling and bounded connections; with `tls` it speaks HTTPS and WSS."""

    def __init__(
        self, config: uvicorn.Config, *, tls: ssl.SSLContext | None = None, room: ConnectionLimits | None = None
    ) -> None:
        self._ends = asyncio.Event()
        super().__init__(config)
        self._tls = tls
        self._room = room
        logging.getLogger("uvicorn.error").addFilter(_one_line)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve these listening sockets, with as many connections as `room` or the limit of open files allows."""
        loop = asyncio.get_running_loop()
        room = ConnectionLimits(for_connections(raise_limit())) if self._room is None else self._room

        async def create_server(
            protocol: Callable[[], asyncio.Protocol], *, sock: socket.socket, backlog: int, **_: Any
        ) -> Acceptor:
            def make(guest: Guest) -> asyncio.Protocol:
                made = protocol()
                made.guest = guest  # type: ignore[attr-defined]
                return made

            # Use the given context: uvicorn itself would build one from files, once.
            acceptor = Acceptor(
                [sock], make, room,
                backlog=backlog, tell=_tell, tls=self._tls, handshake_s=HANDSHAKE_WITHIN_S,
            )  # fmt: skip
            acceptor.start()
            return acceptor

        create, loop.create_server = loop.create_server, create_server  # type: ignore[method-assign, assignment]
        try:
            await super().startup(sockets)
        finally:
            loop.create_server = create  # type: ignore[method-assign]

    @property
    def should_exit(self) -> bool:
        """Whether it is to end; set it from the thread of the event loop."""
        return self._ends.is_set()

    @should_exit.setter
    def should_exit(self, ends: bool) -> None:
        if ends:
            self._ends.set()
        else:
            self._ends.clear()

    async def main_loop(self) -> None:
        """Once a second, for the date in answers, and at once when it is to end; uvicorn itself wakes ten times."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._ends.wait()

    async def ended(self, serving: asyncio.Task[None], in_haste: asyncio.Event) -> None:
        """Wait for its end; at a second request to stop it no longer waits for connections."""
        haste = asyncio.create_task(in_haste.wait(), name="haste")
        await asyncio.wait([serving, haste], return_when=asyncio.FIRST_COMPLETED)
        haste.cancel()
        self.force_exit |= in_haste.is_set()
        await serving

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture no signals: `infra.stopping` does."""
        yield


def _tell(event: str, /, **fields: object) -> None:
    log.warning(event, **fields)


def _one_line(record: logging.LogRecord) -> bool:
    """A client's fault is one line, not a traceback; an internal error keeps its traceback."""
    if str(record.msg).startswith("Invalid UTF-8"):
        record.exc_info = None
    return True
