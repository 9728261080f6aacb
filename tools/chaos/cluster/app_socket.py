"""One socket of an app of the crowd."""

import asyncio
import contextlib
import json
import time
from typing import Any

import httpx2
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, WebSocketException

from tools.chaos.cluster.judge import Rung, Spell

BEAT_EVERY_S = 1.0
FAULTS = (OSError, TimeoutError, WebSocketException, httpx2.HTTPError)
"""What a fault of a bridge, or of the way to it, lets an app see."""


class Socket:
    """It beats, unless told not to, and acknowledges as sarvis.v2.

    Attributes:
        greeting: the first frame that it got.
    """

    def __init__(
        self,
        spell: Spell,
        ws: ClientConnection,
        greeting: dict[str, Any],
        heard: list[Rung],
        *,
        acks: bool,
        beats: bool,
    ) -> None:
        self.spell = spell
        self.greeting = greeting
        self._ws = ws
        self._heard = heard
        self._acks = acks
        self._beats = beats
        self._ours = False
        self.task: asyncio.Task[None]

    async def live(self) -> None:
        """Until it is closed, by either side."""
        beats = asyncio.create_task(self._beat())
        try:
            while True:
                message = json.loads(await self._ws.recv())
                if message["type"] == "voice_command":
                    self._heard.append(Rung(message.get("id"), time.time(), self.spell))
                    if self._acks:
                        await self._ws.send(json.dumps({"type": "ack", "id": message["id"]}))
        except ConnectionClosed as closed:
            if not self._ours:
                self.spell.code = closed.rcvd.code if closed.rcvd else 1006
        finally:
            self.spell.ended = self.spell.ended or time.time()
            beats.cancel()

    async def close(self) -> None:
        self._ours = True
        await self._ws.close()

    def cut(self) -> None:
        """As a phone that lost its network."""
        if self.spell.ended is None:
            self.spell.ended = time.time()
            self.abort()

    def abort(self) -> None:
        """Close what is open, also if the task was cancelled."""
        self._ours = True
        self._ws.transport.abort()

    async def _beat(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            while self._beats:
                await self._ws.send('{"type":"heartbeat"}')
                await asyncio.sleep(BEAT_EVERY_S)
