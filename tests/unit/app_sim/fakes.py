"""A scripted server on a real socket, and an app under watch."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from typing import Any, Self

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from app_sim.client import AppClient
from app_sim.events import AppEvent, EventKind
from app_sim.reconnect import Stop
from contract.clock import SystemClock

TIMEOUT_S = 5.0


class Visit:
    """One connection of an app, seen from the server."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket

    async def welcome(self, **extra: Any) -> None:
        await self.send({"type": "connection_established", "message": "Connected to SARVIS Server", **extra})

    async def send(self, message: object) -> None:
        await self.socket.send(json.dumps(message))

    async def frame(self) -> str:
        async with asyncio.timeout(TIMEOUT_S):
            frame = await self.socket.recv()
        assert isinstance(frame, str)
        return frame

    async def message(self) -> Any:
        return json.loads(await self.frame())

    async def until_gone(self) -> None:
        """Answer heartbeats until the app leaves."""
        async for frame in self.socket:
            if json.loads(frame)["type"] == "heartbeat":
                await self.send({"type": "heartbeat_ack"})


Script = Callable[[Visit], Awaitable[None]]


class FakeServer:
    """Plays one script per connection, the last one again and again."""

    def __init__(
        self,
        scripts: tuple[Script, ...],
        *,
        v2: bool,
        statuses: list[HTTPStatus],
        refusal_headers: Mapping[str, str] | None = None,
    ) -> None:
        self.requests: list[Request] = []
        self.visits: list[Visit] = []
        self.url = ""
        self._scripts = scripts
        self._statuses = statuses
        self._v2 = v2
        self._refusal_headers = refusal_headers or {}

    async def handle(self, socket: ServerConnection) -> None:
        visit = Visit(socket)
        self.visits.append(visit)
        with suppress(ConnectionClosed):
            await self._scripts[min(len(self.visits), len(self._scripts)) - 1](visit)

    def choose(self, _: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
        return offered[0] if self._v2 and offered else None

    def refuse(self, socket: ServerConnection, request: Request) -> Response | None:
        self.requests.append(request)
        if not self._statuses:
            return None
        response = socket.respond(self._statuses.pop(0), "no\n")
        response.headers.update(self._refusal_headers)
        return response


@asynccontextmanager
async def serving(
    *scripts: Script,
    v2: bool = True,
    refusals: tuple[HTTPStatus, ...] = (),
    refusal_headers: Mapping[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
    port: int = 0,
) -> AsyncIterator[FakeServer]:
    fake = FakeServer(scripts, v2=v2, statuses=list(refusals), refusal_headers=refusal_headers)
    server: Server
    async with serve(
        fake.handle,
        "127.0.0.1",
        port,
        ssl=tls,
        subprotocols=[Subprotocol("sarvis.v2")],
        select_subprotocol=fake.choose,
        process_request=fake.refuse,
        close_timeout=1,
    ) as server:
        scheme = "wss" if tls else "ws"
        fake.url = f"{scheme}://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        yield fake


class WatchedApp:
    """An app and the events it told."""

    def __init__(self, url: str, uid: str = "user-1", **options: Any) -> None:
        self.events: list[AppEvent] = []
        self._news = asyncio.Event()
        self.client = AppClient(
            url, uid, on_event=self._note, **{"clock": SystemClock(), "random": lambda: 0.01, **options}
        )
        self._life: asyncio.Task[Stop] | None = None

    def _note(self, event: AppEvent) -> None:
        self.events.append(event)
        self._news.set()

    def of(self, kind: EventKind) -> list[AppEvent]:
        return [event for event in self.events if event.kind == kind]

    async def until(self, kind: EventKind, count: int = 1) -> AppEvent:
        """Wait for the count-th event of a kind."""
        async with asyncio.timeout(TIMEOUT_S):
            while len(self.of(kind)) < count:
                self._news.clear()
                await self._news.wait()
        return self.of(kind)[count - 1]

    async def stop(self) -> Stop:
        """Wait until the app gives up by itself."""
        assert self._life is not None
        async with asyncio.timeout(TIMEOUT_S):
            return await asyncio.shield(self._life)

    async def quit(self) -> None:
        assert self._life is not None
        self._life.cancel()
        await asyncio.wait([self._life])

    async def __aenter__(self) -> Self:
        self._life = asyncio.create_task(self.client.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.quit()
