"""The app as a library: stays connected, sends heartbeats, rings once per command."""

import asyncio
import re
import ssl
from collections.abc import Callable
from pathlib import Path
from random import random as random_number
from typing import Any
from urllib.parse import quote, urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, InvalidStatus, InvalidURI
from websockets.typing import Subprotocol

from app_sim.conversation import ESTABLISH_S, Conversation, Ending
from app_sim.dialogue import Dialogue, Heard, SeenIds, encode
from app_sim.events import AppEvent, EventHandler, EventKind
from app_sim.reconnect import Reconnect, Retry, Stop, meaning, retry_after_s
from app_sim.wishes import Wishes
from contract.app_socket import SUBPROTOCOL_V2, CloseCode
from contract.clock import Clock
from contract.errors import SettingsError
from contract.names import DEVICE_ID_PATTERN, check_uid
from infra import tls
from infra.credentials import clean
from infra.redaction import describe, describe_request, redact, without_userinfo

SUBPROTOCOL = Subprotocol(SUBPROTOCOL_V2)
MAX_FRAME_BYTES = 256 * 1024
"""Enough for the longest `connection_established`: 20 missed wakes of 8 KiB."""

CLOSE_TIMEOUT_S = 2.0


class _Connect(connect):
    """Follows no redirect: the token is only for the server that the user named."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """Treat every redirect as a refusal."""
        return exc


class AppClient:
    """An app of one user. Cancel `run` to quit.

    Args:
    token: the user's token or None; called before each connection, may raise SettingsError.
    ca_file: the authority of the server's certificate, if this machine does not trust it; for wss only.
    """

    def __init__(
        self,
        url: str,
        uid: str,
        *,
        legacy: bool = False,
        client: str | None = None,
        token: Callable[[], str | None] = lambda: None,
        ca_file: Path | None = None,
        heartbeat_interval_s: float | None = None,
        reconnect_max_s: float = 30.0,
        random: Callable[[], float] = random_number,
        on_event: EventHandler,
        clock: Clock,
    ) -> None:
        self.address = address(url, uid, client)
        self.legacy = legacy
        self._token = token
        self._ca_file = ca_file
        self._could_start = False
        self._interval_s = heartbeat_interval_s
        self._reconnect = Reconnect(reconnect_max_s, random)
        self._on_event = on_event
        self._clock = clock
        self._seen = SeenIds()
        self._wishes = Wishes()
        self._logout_wanted = False
        self._logged_out = False

    async def run(self) -> Stop:
        """Run until a final close; raises SettingsError if the address, the token or a file is unusable.

        An unreadable file is later a reason to try again: it may be in the middle of a renewal.

        When it is cancelled, the socket is closed with 1000 and CancelledError is raised on.
        """
        try:
            while isinstance(decision := await self._live_once(), Retry):
                self._emit("retry", detail=decision.reason, code=decision.code, delay_s=decision.delay_s)
                await self._clock.sleep(decision.delay_s)
        except asyncio.CancelledError:
            self._emit("stopped", detail="quit")
            raise
        self._emit("stopped", detail=decision.reason, code=decision.code)
        return decision

    def login(self, device_id: str) -> None:
        """Request a session on a device, now or once connected; raises SettingsError if that is impossible."""
        if self.legacy:
            raise SettingsError("a legacy app cannot log in on a device; remove --legacy")
        if not re.fullmatch(DEVICE_ID_PATTERN, device_id):
            raise SettingsError(f"{device_id!r} is not a device id: 1 to 64 of A-Z a-z 0-9 _ -")
        self._wishes.wish("login", encode({"type": "login", "device_id": device_id}))

    def logout(self) -> None:
        """Log the user out everywhere, now or once connected; `run` ends when the server has confirmed it."""
        if self.legacy:
            raise SettingsError("a legacy app cannot log out; remove --legacy")
        self._logout_wanted = True
        self._wishes.settle("login")
        self._wishes.wish("logout", encode({"type": "logout"}))

    async def _live_once(self) -> Retry | Stop:
        self._emit("connecting", detail=without_userinfo(self.address))
        began = self._clock.monotonic()
        socket = await self._open()
        if not isinstance(socket, ClientConnection):
            return socket
        dialogue = Dialogue(
            v2=socket.subprotocol == SUBPROTOCOL and not self.legacy,
            seen=self._seen,
            interval_s=self._interval_s,
            asked_at=began,
        )
        left_s = max(began + ESTABLISH_S - self._clock.monotonic(), 0.0)
        conversation = Conversation(socket, dialogue, self._wishes, self._clock, self._hear, establish_s=left_s)
        try:
            ending = await conversation.run()
        except asyncio.CancelledError:
            self._emit("closed", code=socket.close_code, detail="this app quits")
            raise
        return self._decide(ending)

    async def _open(self) -> ClientConnection | Retry | Stop:
        try:
            token = _checked(self._token())
            context = tls.client_context(self._ca_file, who="app") if self.address.startswith("wss:") else None
        except SettingsError as fault:
            if not self._could_start:
                raise
            return self._reconnect.after_failure(str(fault))
        self._could_start = True
        try:
            return await self._connect(token, context)
        except InvalidStatus as refusal:
            headers = refusal.response.headers
            wait_s = retry_after_s(headers.get_all("Retry-After"), self._clock.utc_now())
            return self._reconnect.after_refusal(refusal.response.status_code, wait_s)
        except OSError as failure:
            return self._after(failure)
        except InvalidHandshake as failure:
            # The text may come from the server, which received the token.
            return self._reconnect.after_failure(f"no connection: {describe(failure, token or '')}")
        except InvalidURI as fault:
            raise SettingsError(
                f"setting app.url: {without_userinfo(self.address)} is not an address: {fault.msg}"
            ) from None
        except ValueError as fault:
            raise SettingsError(f"setting app.url: {describe(fault, token or '')}") from None

    async def _connect(self, token: str | None, context: ssl.SSLContext | None) -> ClientConnection:
        """Open the socket; a legacy app sends its token in the address, because it offers no subprotocol."""
        uri, offered = self.address, None
        if not self.legacy:
            offered = [SUBPROTOCOL, *([Subprotocol(token)] if token else [])]
        elif token:
            uri += f"{'&' if '?' in uri else '?'}token={quote(token, safe='')}"
        return await _Connect(
            uri,
            ssl=context,
            subprotocols=offered,
            compression=None,
            max_size=MAX_FRAME_BYTES,
            open_timeout=ESTABLISH_S,
            close_timeout=CLOSE_TIMEOUT_S,
            proxy=None,
        )

    def _after(self, failure: OSError) -> Retry | Stop:
        parts = urlsplit(self.address)
        if parts.scheme == "wss":
            told = tls.explain(failure, parts.hostname or "", who="app", peer="the server")
            if tls.is_final(failure):
                return Stop(f"{told}; app.ca_file names the authority that this app trusts")
            return self._reconnect.after_failure(f"no connection: {told or describe(failure)}")
        return self._reconnect.after_failure(f"no connection: {describe(failure)}")

    def _decide(self, ending: Ending) -> Retry | Stop:
        self._emit("closed", code=ending.code, detail=meaning(ending.code, ending.reason))
        if self._logged_out or (self._logout_wanted and ending.code == CloseCode.LOGGED_OUT):
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
        self._emit(heard.kind, message=heard.message, detail=heard.detail, missed=heard.missed)

    def _emit(
        self,
        kind: EventKind,
        *,
        message: dict[str, Any] | None = None,
        detail: str | None = None,
        code: int | None = None,
        delay_s: float | None = None,
        missed: list[dict[str, Any]] | None = None,
    ) -> None:
        detail = detail and redact(detail)  # a server's text, too
        self._on_event(AppEvent(kind, self._clock.utc_now().timestamp(), message, detail, code, delay_s, missed))


def address(url: str, uid: str, client: str | None = None) -> str:
    """The WebSocket address of a user; raises SettingsError."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises ValueError for an invalid port
    except ValueError as fault:
        raise SettingsError(f"setting app.url: {describe_request(fault, url)}") from None
    if parts.scheme not in {"ws", "wss"} or not parts.hostname or parts.query or parts.fragment:
        raise SettingsError("setting app.url: write the server's address as ws://HOST:PORT or wss://HOST")
    try:
        check_uid(uid)
    except ValueError as fault:
        raise SettingsError(f"setting app.uid: {fault}") from None
    query = f"?client={quote(client, safe='')}" if client else ""
    return f"{url.rstrip('/')}/ws/app/{quote(uid, safe='')}/{query}"


def _checked(token: str | None) -> str | None:
    try:
        return None if token is None else clean(token, "token")
    except ValueError as fault:
        raise SettingsError(f"setting app.token or app.token_file: it {fault}") from None
