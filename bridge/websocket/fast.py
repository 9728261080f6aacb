"""An app's WebSocket on the server's own transport: no task, no queue and no timer for each app.

Frames that are whole, short and unfragmented, which is what apps send, are cut here; from the first other one on a
CarefulReader reads. Who may come in at all is decided before (`bridge.websocket.admission`).
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol

from websockets.utils import apply_mask

from bridge.app_protocol import FRAMES, MAX_FRAME_BYTES, CloseCode, close_reason
from bridge.auth.rates import amount_of
from bridge.service import Bridge
from bridge.store import StoreError
from bridge.websocket.admission import Admitted
from bridge.websocket.careful import INVALID_TEXT, CarefulReader, EndlessError
from bridge.websocket.connection import CLOSE_TIMEOUT_S, MAX_UNSENT_BYTES
from bridge.websocket.keepalive import Wheel
from bridge.websocket.requests import established, obey
from contract.telemetry import get_logger

MAX_HELD_BYTES = 32 * 1024
"""What an app may send ahead while a request of its is with the ledger, before its socket is not read any more."""

TEXT, PING, PONG = 0x81, 0x89, 0x8A
"""First bytes of whole frames."""

MASKED, SHORT, EXTENDED, LONGEST = 0x80, 125, 126, 0xFFFF
SHORT_HEADS = [bytes([TEXT, length]) for length in range(SHORT + 1)]
PING_FRAME = bytes([PING, 0])
UNRESPONSIVE, RESTART = 1011, 1012
STEP_S = 0.1
"""Of the keep-alive."""

log = get_logger("websocket")


class Server(Protocol):
    """What all connections of a server share: uvicorn's ServerState."""

    connections: set[Any]
    tasks: set[asyncio.Task[None]]


class House:
    """What all fast connections of a bridge share. Made on the loop that serves them; `run` looks after them.

    Args:
        turn_s: who is silent for one to two of these is pinged, for two to three cut off.
    """

    def __init__(self, bridge: Bridge, turn_s: float) -> None:
        self.bridge = bridge
        self.frames, self.period_s = amount_of(bridge.settings.limits.frames)
        self.loop = asyncio.get_running_loop()
        self.wheel: Wheel[FastConnection] = Wheel(max(round(turn_s / STEP_S), 1))

    async def run(self) -> None:
        """Cut off who gives no sign of life, until cancelled."""
        while True:
            await asyncio.sleep(STEP_S)
            self.wheel.step()


class FastConnection(asyncio.Protocol):
    """An AppConnection that is its own protocol.

    Attributes:
        silence, slot: see `bridge.websocket.keepalive.Quiet`.
    """

    __slots__ = (
        "_awaited",
        "_careful",
        "_client",
        "_closing",
        "_deaf",
        "_expiry",
        "_held",
        "_house",
        "_joined",
        "_paused",
        "_server",
        "_spent",
        "_transport",
        "_window_ends",
        "frames",
        "misunderstood",
        "mode",
        "principal",
        "silence",
        "slot",
        "uid",
    )

    def __init__(self, house: House, transport: asyncio.Transport, admitted: Admitted, server: Server) -> None:
        self.uid = admitted.uid
        self.mode = admitted.mode
        self.principal = admitted.principal
        self.frames = FRAMES[admitted.mode]
        self.misunderstood = False
        self.silence = 0
        self.slot = 0
        self._house = house
        self._server = server
        self._transport = transport
        self._client = admitted.client
        self._joined = False
        self._closing = False  # nothing is sent any more
        self._deaf = False  # nothing is obeyed any more
        self._paused = False
        self._awaited = True  # the ledger, for the greeting
        self._held = b""
        self._careful: CarefulReader | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._spent = 0
        self._window_ends = 0.0

    def begin(self, handshake: bytes) -> None:
        """Answer the request with `handshake`, and greet, once the ledger knows that the app is here."""
        self._server.connections.add(self)
        self._house.wheel.add(self)
        returns = self._house.bridge.returns(self.uid, self.mode, self._client)
        if returns is not None:
            self._welcome(handshake, [])
            self._house.bridge.join_again(self, self._client, returns)
            self._go_on()
            return

        def known(answer: list[dict[str, str]] | StoreError) -> None:
            if not self._closing:
                self._greet(handshake, answer)

        self._house.bridge.sessions.connect_soon(self.uid, known)

    # For the bridge

    def send(self, frame: str) -> bool:
        """See AppConnection."""
        if self._closing:
            return False
        payload = frame.encode()
        if self._transport.get_write_buffer_size() + len(payload) > MAX_UNSENT_BYTES:
            self.close(CloseCode.SLOW_CONSUMER, "too slow a reader")
            return False
        self._transport.write(_text(payload))
        return True

    @property
    def has_room(self) -> bool:
        """See AppConnection."""
        return self._transport.get_write_buffer_size() < MAX_UNSENT_BYTES // 2

    def close(self, code: CloseCode, text: str) -> None:
        """See AppConnection."""
        if self._closing:
            return
        careful = self._be_careful()
        careful.close(code, close_reason(code, text))
        self._transport.write(careful.output)
        self._closing = self._deaf = True
        self._leave()
        self._house.loop.call_later(CLOSE_TIMEOUT_S, self._transport.abort)

    def ping(self) -> None:
        """See Quiet."""
        if not self._closing:
            self._transport.write(PING_FRAME)

    def give_up(self) -> None:
        """See Quiet. Nor will the peer read a close frame."""
        self._fail(UNRESPONSIVE, "no sign of life")
        self._transport.abort()

    # For the server

    def shutdown(self) -> None:
        """The server stops; who is still here was asked to go before."""
        self._fail(RESTART)

    # For the transport

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone; what the app has asked for before that is carried out."""
        del exc
        self._closing = True
        self._server.connections.discard(self)
        self._house.wheel.remove(self)
        if self._expiry is not None:
            self._expiry.cancel()
        self._leave()
        if self._careful is not None:
            self._careful.end()

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        self.silence = 0
        if self._held:
            data = self._held + data
            self._held = b""
        if self._awaited:
            self._held = data
            if len(data) > MAX_HELD_BYTES and not self._paused:
                self._paused = True
                self._transport.pause_reading()
            return
        try:
            if self._careful is None:
                self._read(data)
            else:
                self._read_carefully(data)
        except Exception:
            # A fault of ours ends this connection and no other.
            log.exception("connection_failed", uid=self.uid)
            self._transport.abort()

    # Inside

    def _leave(self) -> None:
        if self._joined:
            self._joined = False
            self._house.bridge.leave(self)
            log.debug("app_disconnected", uid=self.uid)

    def _greet(self, handshake: bytes, answer: list[dict[str, str]] | StoreError) -> None:
        bridge = self._house.bridge
        if isinstance(answer, StoreError):
            self._transport.write(handshake)
            self.close(CloseCode.DRAIN, "the ledger cannot be written")
        else:
            self._welcome(handshake, answer)
            bridge.join(self, self._client)
        self._go_on()

    def _welcome(self, handshake: bytes, sessions: list[dict[str, str]]) -> None:
        bridge = self._house.bridge
        # In one write: the app reads it at once, and it costs half.
        self._transport.write(handshake + _text(established(bridge, self, sessions).encode()))
        self._joined = True
        if self.principal.expires_at is not None:
            left_s = max(self.principal.expires_at - bridge.clock.utc_now().timestamp(), 0.0)
            self._expiry = self._house.loop.call_later(
                left_s, self.close, CloseCode.UNAUTHORISED, "the token has expired"
            )
        log.debug("app_connected", uid=self.uid, mode=self.mode)

    def _go_on(self) -> None:
        """What was waited for has happened: obey what came meanwhile."""
        self._awaited = False
        if self._paused:
            self._paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()
        if self._careful is not None:
            self._obey_all(self._careful)
        if self._held and not self._awaited:
            self.data_received(b"")

    def _read(self, data: bytes) -> None:
        """Cut frames as long as they are ordinary ones; the last may be incomplete."""
        at, end = 0, len(data)
        while end - at >= 2:  # noqa: PLR2004 - no frame is shorter
            first, length, mask_at = data[at], data[at + 1] ^ MASKED, at + 2
            if length == EXTENDED and first == TEXT:
                if end - at < 4:  # noqa: PLR2004 - the length itself is incomplete
                    break
                length, mask_at = data[at + 2] << 8 | data[at + 3], at + 4
                ordinary = length <= MAX_FRAME_BYTES
            else:
                ordinary = length <= SHORT and first in {TEXT, PING, PONG}
            if not ordinary:
                self._be_careful()
                break
            start = mask_at + 4
            if end - start < length:
                break
            at = start + length
            self._take(first, apply_mask(data[start:at], data[mask_at:start]))
            if self._careful is not None or self._awaited:
                break
        if at < end:
            self._held = data[at:]
            if self._careful is not None and not self._awaited:
                held, self._held = self._held, b""
                self._read_carefully(held)

    def _take(self, kind: int, payload: bytes) -> None:
        if kind == TEXT:
            try:
                message = payload.decode()
            except UnicodeDecodeError:
                self._fail(INVALID_TEXT)
                return
            self._obey(message)
        elif kind == PING and not self._closing and not self._is_flooding():
            self._transport.write(bytes([PONG, len(payload)]) + payload)

    def _read_carefully(self, data: bytes) -> None:
        careful = self._be_careful()
        try:
            careful.feed(data)
        except EndlessError:
            self._transport.abort()
            return
        if (output := careful.output) and not self._transport.is_closing() and not self._is_flooding():
            self._transport.write(output)
        if careful.over:
            self._closing = True
            self._end()
        self._obey_all(careful)

    def _obey_all(self, careful: CarefulReader) -> None:
        if self._deaf:
            careful.messages.clear()
        while careful.messages and not self._awaited and not self._deaf:
            self._obey(careful.messages.popleft())

    def _obey(self, message: str | bytes) -> None:
        """Carry out a message; `_awaited` tells whether what comes after it must wait."""
        house = self._house
        now = house.bridge.clock.monotonic()
        if now >= self._window_ends:
            self._window_ends = now + house.period_s
            self._spent = 0
        self._spent += 1
        if self._spent > house.frames:
            self.close(CloseCode.RATE, "too many messages")
            return
        asked = obey(house.bridge, self, message)
        if asked is not None:
            self._awaited = True
            task = house.loop.create_task(self._wait_for(asked))
            self._server.tasks.add(task)
            task.add_done_callback(self._server.tasks.discard)

    async def _wait_for(self, asked: Coroutine[Any, Any, None]) -> None:
        try:
            await asked
        except Exception:
            log.exception("connection_failed", uid=self.uid)
            self._transport.abort()
        self._go_on()

    def _is_flooding(self) -> bool:
        """Does the peer not read the answers to its pings? Then it is cut off."""
        if self._transport.get_write_buffer_size() <= MAX_UNSENT_BYTES:
            return False
        self._transport.abort()
        return True

    def _be_careful(self) -> CarefulReader:
        if self._careful is None:
            self._careful = CarefulReader()
        return self._careful

    def _fail(self, code: int, reason: str = "") -> None:
        careful = self._be_careful()
        careful.fail(code, reason)
        self._closing = self._deaf = True
        if not self._transport.is_closing():
            self._transport.write(careful.output)
            self._end()

    def _end(self) -> None:
        self._transport.close()
        if self._transport.get_write_buffer_size():
            self._house.loop.call_later(CLOSE_TIMEOUT_S, self._transport.abort)


def _text(payload: bytes) -> bytes:
    length = len(payload)
    if length <= SHORT:
        return SHORT_HEADS[length] + payload
    if length <= LONGEST:
        return b"\x81\x7e" + length.to_bytes(2) + payload
    return b"\x81\x7f" + length.to_bytes(8) + payload
