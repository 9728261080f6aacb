"""Starts and stops the embedded broker: MQTT 3.1.1 over TCP or TLS in this process."""

import asyncio
import errno
import logging
import socket
from pathlib import Path
from types import TracebackType
from typing import Self

from broker.server.auth import Authorizer, OpenAuthorizer
from broker.server.limits import Limits
from broker.server.sessions import HardenedBroker
from broker.server.tls import ServerTls
from contract.errors import StartError
from infra.accepting import Acceptor
from infra.host_port import host_port

log = logging.getLogger(__name__)

BACKLOG = 1024
LAST_PORT = 65_535


class EmbeddedBroker:
    """Serves from `start` to `stop`, or inside `async with`.

    With `store`, a file, retained messages and persistent sessions survive it: acknowledged messages are on disk.

    Attributes:
    host: of the listening socket.
    port: of the listening socket; after `start` the real one if 0 was requested.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 1883,
        *,
        access: Authorizer | None = None,
        limits: Limits | None = None,
        tls: ServerTls | None = None,
        store: Path | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self._access = access or OpenAuthorizer()
        self._limits = limits or Limits()
        self._tls = tls
        self._store = store
        self._broker: HardenedBroker | None = None
        self._acceptor: Acceptor | None = None

    @property
    def url(self) -> str:
        """The address for clients."""
        scheme = "mqtts" if self._tls else "mqtt"
        return f"{scheme}://{host_port(self.host, self.port)}"

    async def start(self) -> None:
        """Listen; raises StartError if the address or the store is unavailable."""
        quieten_amqtt()
        broker = HardenedBroker(self._access, self._limits, self._tls, self._store)
        try:
            sockets = await _bind(self.host, self.port)
        except (OSError, OverflowError) as error:
            raise StartError(_why(self.host, self.port, error)) from error
        acceptor = Acceptor(sockets, broker.protocol, broker.room, backlog=BACKLOG, tell=_tell)
        try:
            await broker.start()
            acceptor.start()
        except BaseException as error:
            acceptor.close()
            if isinstance(error, OSError):  # bound at the same time as another program that already listens
                await broker.shutdown()
                raise StartError(_why(self.host, self.port, error)) from error
            raise
        self._acceptor, self._broker = acceptor, broker
        self.port = sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close the port and every connection; a second call does nothing."""
        acceptor, self._acceptor = self._acceptor, None
        broker, self._broker = self._broker, None
        if acceptor is None or broker is None:
            return
        acceptor.close()
        await acceptor.wait_closed()
        await broker.shutdown()

    async def watch(self) -> None:
        """Until cancelled; raises the internal error that ended the writer of the store."""
        if self._broker is not None:
            await self._broker.watch()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


async def _bind(host: str, port: int) -> list[socket.socket]:
    """A socket for each address of this host whose family this machine supports; raises OSError, OverflowError."""
    if not 0 <= port <= LAST_PORT:
        raise OverflowError(f"{port} is not a port")  # getaddrinfo would use the remainder of a division
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            if family == socket.AF_INET6 and not socket.has_ipv6:
                continue
            sock = socket.socket(family, kind, protocol)
            sockets.append(sock)
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(address)
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _tell(event: str, /, **fields: object) -> None:
    log.warning("%s %s", event, " ".join(f"{name}={value!r}" for name, value in fields.items()))


def quieten_amqtt() -> None:
    """Let only warnings of aMQTT and its state machines into the log; otherwise they log every packet."""
    for name in ("amqtt", "transitions"):
        logger = logging.getLogger(name)
        logger.setLevel(max(logger.level, logging.WARNING))


def _why(host: str, port: int, error: Exception) -> str:
    code = error.errno if isinstance(error, OSError) else None
    if code == errno.EADDRINUSE:
        return f"port {port} on {host} is already in use; stop that program or choose another port with --port"
    if code in (errno.EACCES, errno.EPERM):
        return f"port {port} on {host} may not be opened by this user; choose one above 1023 with --port"
    if isinstance(error, OverflowError):
        return f"{port} is not a port; choose one from 1 to 65535 with --port"
    return f"cannot listen on {host}: {error}; choose an address of this machine with --host"
