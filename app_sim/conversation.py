"""One connection of an app, from its first byte to its close."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from app_sim.dialogue import Dialogue, Heard
from app_sim.reconnect import ABNORMAL
from app_sim.wishes import Wishes
from contract.clock import Clock
from infra.telemetry import get_logger

ESTABLISH_S = 10.0
"""How long an attempt to connect may take, from the name look-up to the server's `connection_established`."""

log = get_logger("app")


@dataclass(frozen=True, slots=True)
class Ending:
    """How a connection ended; without `code` the app ended it for the `reason`."""

    code: int | None
    reason: str
    lived_s: float


class Conversation:
    """Reads frames, sends heartbeats and wishes on one socket. Closes the socket."""

    def __init__(
        self,
        socket: ClientConnection,
        dialogue: Dialogue,
        wishes: Wishes,
        clock: Clock,
        on_heard: Callable[[Heard], None],
        establish_s: float = ESTABLISH_S,
    ) -> None:
        """`establish_s`: how long `connection_established` may still take."""
        self._socket = socket
        self._dialogue = dialogue
        self._wishes = wishes
        self._clock = clock
        self._on_heard = on_heard
        self._establish_s = establish_s
        self._established = asyncio.Event()
        self._lives_since = clock.monotonic()
        self._gave_up: str | None = None

    async def run(self) -> Ending:
        """Run until the connection ends; when cancelled, the socket is closed with 1000 first."""
        try:
            async with asyncio.TaskGroup() as tasks:
                helpers = [
                    tasks.create_task(self._beat(), name="heartbeats"),
                    tasks.create_task(self._send_wishes(), name="wishes"),
                ]
                await self._read()
                for helper in helpers:
                    helper.cancel()
        finally:
            await self._socket.close()
        # A server that accepts connections without a first frame is as good as unreachable.
        lived_s = self._clock.monotonic() - self._lives_since if self._established.is_set() else 0.0
        if self._gave_up is not None:
            return Ending(None, self._gave_up, lived_s)
        return Ending(self._socket.close_code or ABNORMAL, self._socket.close_reason or "", lived_s)

    async def _read(self) -> None:
        with suppress(ConnectionClosed):
            while True:
                frame = await self._socket.recv()
                heard = self._dialogue.hear(frame, self._clock.monotonic())
                if heard.kind == "connected":
                    self._lives_since = self._clock.monotonic()
                    self._established.set()
                self._on_heard(heard)
                if heard.answer is not None:
                    with suppress(ConnectionClosed):  # frames before the close are still to be read
                        await self._socket.send(heard.answer)

    async def _beat(self) -> None:
        with suppress(ConnectionClosed):
            if not await self._clock.wait(self._established, self._establish_s):
                self._gave_up = "the server sent no connection_established"
            while self._gave_up is None:
                frame = self._dialogue.heartbeat(self._clock.monotonic())
                if frame is None:
                    self._gave_up = "the server does not answer heartbeats"
                    break
                await self._socket.send(frame)
                await self._clock.sleep(self._dialogue.interval_s)
            await self._socket.close()

    async def _send_wishes(self) -> None:
        await self._established.wait()
        self._wishes.renew()
        with suppress(ConnectionClosed):
            while True:
                frame = await self._wishes.next()
                if self._dialogue.v2:
                    await self._socket.send(frame)
                else:
                    log.warning("wish_not_sent", frame=frame, reason="the server does not speak sarvis.v2")
