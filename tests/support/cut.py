"""A TCP proxy that cuts connections where a test says, as a network or a fail-over does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Literal

HOST = "127.0.0.1"
CHUNK = 64 * 1024
Cut = Literal["before", "after"]


class Cutter:
    """Passes bytes on, until `word` comes from a client: once, it cuts that connection.

    Attributes:
        port: where clients connect.
        cuts: how often it has cut.
        cut_one: set from the first time on.
        refuses: whether new connections are cut at once.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._armed: tuple[bytes, Cut] | None = None
        self.port = 0
        self.cuts = 0
        self.cut_one = asyncio.Event()
        self.refuses = False

    def arm(self, word: bytes, cut: Cut) -> None:
        """Cut `before` the word reaches the server, or `after` the server has answered it; the client reads neither."""
        self._armed = (word, cut)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        if self.refuses:
            writer.transport.abort()
            return
        from_server, to_server = await asyncio.open_connection(HOST, self._target)
        cut = asyncio.Event()
        tasks = [
            asyncio.ensure_future(self._up(reader, to_server, cut)),
            asyncio.ensure_future(_down(from_server, writer, cut)),
        ]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for side in (writer, to_server):
            side.transport.abort()

    async def _up(self, reader: asyncio.StreamReader, to_server: asyncio.StreamWriter, cut: asyncio.Event) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(CHUNK):
                if self._armed is not None and self._armed[0] in data:
                    (_, where), self._armed = self._armed, None
                    self.cuts += 1
                    self.cut_one.set()
                    if where == "before":
                        return
                    cut.set()
                to_server.write(data)


async def _down(from_server: asyncio.StreamReader, writer: asyncio.StreamWriter, cut: asyncio.Event) -> None:
    with suppress(ConnectionError):
        while data := await from_server.read(CHUNK):
            if cut.is_set():
                return
            writer.write(data)


@asynccontextmanager
async def cutter(target: int) -> AsyncIterator[Cutter]:
    """A proxy before a port of this machine, until the block ends."""
    it = Cutter(target)
    listening = await asyncio.start_server(it.serve, HOST, 0)
    it.port = listening.sockets[0].getsockname()[1]
    try:
        yield it
    finally:
        listening.close()
