"""The embedded broker: MQTT 3.1.1 over TCP or TLS in this process, without a plugin."""

import asyncio
import errno
import logging
from pathlib import Path
from types import TracebackType
from typing import Self

from broker.access import Access, OpenAccess
from broker.hardened import HardenedBroker
from broker.limits import Limits
from broker.tls import ServerTls
from contract.errors import StartError

BACKLOG = 1024


class EmbeddedBroker:
    """Serves from `start` to `stop`, or inside `async with`.

    With `store`, a file, retained messages and persistent sessions outlive it: what was acknowledged is on disk.

    Attributes:
        host: where it listens.
        port: where it listens; the real one after `start` when 0 was asked for.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 1883,
        *,
        access: Access | None = None,
        limits: Limits | None = None,
        tls: ServerTls | None = None,
        store: Path | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self._access = access or OpenAccess()
        self._limits = limits or Limits()
        self._tls = tls
        self._store = store
        self._broker: HardenedBroker | None = None
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """The address for clients."""
        scheme = "mqtts" if self._tls else "mqtt"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}"

    async def start(self) -> None:
        """Listen; raises StartError when the address or the store cannot be had."""
        quieten_amqtt()
        broker = HardenedBroker(self._access, self._limits, self._tls, self._store)
        try:
            server = await asyncio.start_server(
                broker.serve_client, self.host, self.port, backlog=BACKLOG, start_serving=False
            )
        except (OSError, OverflowError) as error:
            raise StartError(_why(self.host, self.port, error)) from error
        try:
            await broker.start()
            await server.start_serving()
        except BaseException:
            server.close()
            raise
        self._server, self._broker = server, broker
        self.port = server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close the port and every connection; a second time does nothing."""
        server, self._server = self._server, None
        broker, self._broker = self._broker, None
        if server is None or broker is None:
            return
        server.close()
        await broker.shutdown()
        await server.wait_closed()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


def quieten_amqtt() -> None:
    """Let only warnings of aMQTT and its state machines into the log; they tell every packet otherwise."""
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
        return f"{port} is no port; choose one from 1 to 65535 with --port"
    return f"cannot listen on {host}: {error}; choose an address of this machine with --host"
