"""The app as a library: stays connected, sends heartbeats, rings once per command."""

import asyncio
import re
from collections.abc import Callable
from random import random as random_number
from typing import Any
from urllib.parse import quote, urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidStatus, InvalidURI
from websockets.typing import Subprotocol

from app_sim.conversation import Conversation, Ending
from app_sim.dialogue import Dialogue, Heard, SeenIds, encode
from app_sim.events import AppEvent, EventHandler, EventKind
from app_sim.reconnect import LOGGED_OUT, Reconnect, Retry, Stop, meaning
from app_sim.wishes import Wishes
from contract.clock import Clock
from contract.errors import SettingsError
from contract.messages import DEVICE_ID_PATTERN, check_uid

SUBPROTOCOL = Subprotocol("sarvis.v2")
MAX_FRAME_BYTES = 256 * 1024
"""Room for the longest `connection_established`: 20 missed wakes of 8 KiB."""

CLOSE_TIMEOUT_S = 2.0


class AppClient:
    """An app of one user. Cancel `run` to quit."""

    def __init__(
        self,
        url: str,
        uid: str,
        *,
        legacy: bool = False,
        client: str | None = None,
        heartbeat_interval_s: float | None = None,
        reconnect_max_s: float = 30.0,
        random: Callable[[], float] = random_number,
        on_event: EventHandler,
        clock: Clock,
    ) -> None:
        self.address = address(url, uid, client)
        self.legacy = legacy
        self._interval_s = heartbeat_interval_s
        self._reconnect = Reconnect(reconnect_max_s, random)
        self._on_event = on_event
        self._clock = clock
        self._seen = SeenIds()
        self._wishes = Wishes()
        self._logout_wanted = False
        self._logged_out = False

    async def run(self) -> Stop:
        """Live until a final close; raises SettingsError when the address is unusable.

        When it is cancelled, the socket is closed with 1000 and CancelledError goes on.
        """
        try:
            while isinstance(decision := await self._live_once(), Retry):
                self._emit("retry", detail=decision.reason, code=decision.code, delay_s=decision.delay_s)
                await asyncio.sleep(decision.delay_s)
        except asyncio.CancelledError:
            self._emit("stopped", detail="quit")
            raise
        self._emit("stopped", detail=decision.reason, code=decision.code)
        return decision

    def login(self, device_id: str) -> None:
        """Ask for a session on a device, now or as soon as connected; raises SettingsError for what cannot be."""
        if self.legacy:
            raise SettingsError("a legacy app cannot log in on a device; leave --legacy away")
        if not re.fullmatch(DEVICE_ID_PATTERN, device_id):
            raise SettingsError(f"{device_id!r} is no device id: 1 to 64 of A-Z a-z 0-9 _ -")
        self._wishes.wish("login", encode({"type": "login", "device_id": device_id}))

    def logout(self) -> None:
        """Log the user out everywhere, now or as soon as connected; `run` ends when the server has done it."""
        if self.legacy:
            raise SettingsError("a legacy app cannot log out; leave --legacy away")
        self._logout_wanted = True
        self._wishes.settle("login")
        self._wishes.wish("logout", encode({"type": "logout"}))

    async def _live_once(self) -> Retry | Stop:
        self._emit("connecting", detail=self.address)
        socket = await self._open()
        if not isinstance(socket, ClientConnection):
            return socket
        dialogue = Dialogue(
            v2=socket.subprotocol == SUBPROTOCOL and not self.legacy, seen=self._seen, interval_s=self._interval_s
        )
        try:
            ending = await Conversation(socket, dialogue, self._wishes, self._clock, self._hear).run()
        except asyncio.CancelledError:
            self._emit("closed", code=socket.close_code, detail="this app quits")
            raise
        return self._decide(ending)

    async def _open(self) -> ClientConnection | Retry | Stop:
        try:
            return await connect(
                self.address,
                subprotocols=None if self.legacy else [SUBPROTOCOL],
                compression=None,
                max_size=MAX_FRAME_BYTES,
                close_timeout=CLOSE_TIMEOUT_S,
                proxy=None,
            )
        except InvalidStatus as refusal:
            return self._reconnect.after_refusal(refusal.response.status_code)
        except (OSError, InvalidHandshake) as failure:
            return self._reconnect.after_failure(f"no connection: {failure}")
        except (InvalidURI, ValueError) as fault:
            raise SettingsError(f"setting app.url: {fault}") from None

    def _decide(self, ending: Ending) -> Retry | Stop:
        self._emit("closed", code=ending.code, detail=meaning(ending.code, ending.reason))
        if self._logged_out or (self._logout_wanted and ending.code == LOGGED_OUT):
            return Stop("logged out", ending.code, wanted=True)
        return self._reconnect.after_close(ending.code, ending.reason, lived_s=ending.lived_s)

    def _hear(self, heard: Heard) -> None:
        match (heard.message or {}).get("type"):
            case "login_ack":
                self._wishes.settle("login")
            case "error" if heard.message and heard.message.get("temporary") is False:
                self._wishes.settle("login")
            case "logout_ack" if self._logout_wanted:
                self._wishes.settle("logout")
                self._logged_out = True
        self._emit(heard.kind, message=heard.message, detail=heard.detail)

    def _emit(
        self,
        kind: EventKind,
        *,
        message: dict[str, Any] | None = None,
        detail: str | None = None,
        code: int | None = None,
        delay_s: float | None = None,
    ) -> None:
        self._on_event(AppEvent(kind, self._clock.utc_now().timestamp(), message, detail, code, delay_s))


def address(url: str, uid: str, client: str | None = None) -> str:
    """The WebSocket address of a user; raises SettingsError."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises ValueError when it is no port
    except ValueError as fault:
        raise SettingsError(f"setting app.url: {fault}") from None
    if parts.scheme not in {"ws", "wss"} or not parts.hostname or parts.query or parts.fragment:
        raise SettingsError("setting app.url: write the server's address as ws://HOST:PORT or wss://HOST")
    try:
        check_uid(uid)
    except ValueError as fault:
        raise SettingsError(f"setting app.uid: {fault}") from None
    query = f"?client={quote(client, safe='')}" if client else ""
    return f"{url.rstrip('/')}/ws/app/{quote(uid, safe='')}/{query}"
