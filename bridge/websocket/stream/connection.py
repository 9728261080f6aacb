"""An app's WebSocket on the server's own transport: no task, queue or timer for each app.

Whole, short, unfragmented frames, which apps usually send, are cut here; from the first other frame on a FrameReader
reads. `handshake.py` decides before whether the app may connect.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, Protocol

from websockets.utils import apply_mask

from bridge.apps.connection import CLOSE_TIMEOUT_S, MAX_UNSENT_BYTES
from bridge.apps.protocol import FRAMES, close_reason
from bridge.auth.rate_limits import amount_of
from bridge.service import Bridge
from bridge.sessions.connect import UserData
from bridge.storage.store import StoreError
from bridge.websocket.commands import NOTHING, established, obey
from bridge.websocket.keepalive import Wheel
from bridge.websocket.stream.frame_reader import INVALID_TEXT, EndlessError, FrameReader, is_never_text
from bridge.websocket.stream.handshake import AcceptedHandshake
from bridge.websocket.stream.state import IN_HUB, Input, State, following
from contract.app_socket import LOST, MAX_FRAME_BYTES, CloseCode
from infra.telemetry import get_logger

MAX_HELD_BYTES = 32 * 1024
"""Bytes that an app may send ahead while its request waits for the ledger; beyond, its socket is not read."""

TEXT, PING, PONG = 0x81, 0x89, 0x8A
"""First bytes of unfragmented frames."""

MASKED, SHORT, EXTENDED, LONGEST = 0x80, 125, 126, 0xFFFF
PING_FRAME = bytes([PING, 0])
MADE_HEADS = 1024
UNRESPONSIVE, RESTART = 1011, 1012

# Module-level names: looking up a member of an Enum takes twice as long.
GREETING, OPEN, ENDED_BY_APP, CLOSING, FAILED, CLOSED = State
TAKEN, HELD, PAUSED = Input
STEP_S = 0.1
"""Payload of the keep-alive's pings."""

log = get_logger("websocket")


def _text_head(length: int) -> bytes:
    if length <= SHORT:
        return bytes([TEXT, length])
    if length <= LONGEST:
        return bytes([TEXT, EXTENDED]) + length.to_bytes(2)
    return bytes([TEXT, EXTENDED + 1]) + length.to_bytes(8)


TEXT_HEADS = [_text_head(length) for length in range(MADE_HEADS)]
"""The frames that apps send most, by length."""


class Server(Protocol):
    """The state that all connections of a server share: uvicorn's ServerState."""

    connections: set[Any]
    tasks: set[asyncio.Task[None]]


class StreamServerState:
    """What all stream connections of a bridge share. Create it on the loop that serves them; `run` checks them.

    Args:
    turn_s: a connection that is silent for one to two of these is pinged, for two to three cut off.
    """

    def __init__(self, bridge: Bridge, turn_s: float) -> None:
        self.bridge = bridge
        self.frames, self.period_s = amount_of(bridge.settings.limits.frames)
        self.loop = asyncio.get_running_loop()
        self.wheel: Wheel[StreamConnection] = Wheel(max(round(turn_s / STEP_S), 1))

    async def run(self) -> None:
        """Cut off connections that do not answer, until cancelled."""
        while True:
            await self.bridge.clock.sleep(STEP_S)
            self.wheel.step()


class StreamConnection(asyncio.Protocol):
    """An AppConnection that is its own protocol.

    Attributes:
    silence, slot: see `bridge.websocket.keepalive.Pingable`.
    """

    __slots__ = (
        "_client",
        "_expiry",
        "_frame_reader",
        "_held",
        "_input",
        "_server",
        "_shared",
        "_spent",
        "_state",
        "_transport",
        "_window_ends",
        "address",
        "ended",
        "frames",
        "label",
        "misunderstood",
        "mode",
        "principal",
        "silence",
        "slot",
        "uid",
    )

    def __init__(
        self, shared: StreamServerState, transport: asyncio.Transport, admitted: AcceptedHandshake, server: Server
    ) -> None:
        self.uid = admitted.uid
        self.mode = admitted.mode
        self.principal = admitted.principal
        self.frames = FRAMES[admitted.mode]
        self.misunderstood = False
        self.address = admitted.address
        self.label = ""
        self.ended = 0
        self.silence = 0
        self.slot = 0
        self._shared = shared
        self._server = server
        self._transport = transport
        self._client = admitted.client
        self._state = GREETING
        self._input = HELD
        self._held = b""
        self._frame_reader: FrameReader | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._spent = 0
        self._window_ends = 0.0

    def begin(self, handshake: bytes) -> None:
        """Answer the request with `handshake` and send the first frame, once the ledger has the connection."""
        self._server.connections.add(self)
        self._shared.wheel.add(self)
        returns = self._shared.bridge.returns(self.uid, self.mode, self._client)
        if returns is not None:
            self._welcome(handshake, NOTHING)
            self._shared.bridge.join_again(self, self._client, returns)
            self._go_on()
            return

        gate, now = self._shared.bridge.gate, self._shared.bridge.clock.monotonic
        if gate is not None:
            gate.came(now())

        def known(answer: UserData | StoreError) -> None:
            if gate is not None:
                gate.answered(now())
            if self._state is GREETING:
                self._greet(handshake, answer)

        self._shared.bridge.sessions.connect_soon(self.uid, known)

    # For the bridge:

    def send(self, frame: str) -> bool:
        """See `AppConnection.send`."""
        if self._state is not OPEN:
            return False
        payload = frame.encode()
        length = len(payload)
        transport = self._transport
        if transport.get_write_buffer_size() + length > MAX_UNSENT_BYTES:
            self.close(CloseCode.SLOW_CONSUMER, "too slow a reader")
            return False
        head = TEXT_HEADS[length] if length < MADE_HEADS else _text_head(length)
        transport.write(head + payload)
        return True

    @property
    def has_room(self) -> bool:
        """See `AppConnection.has_room`."""
        return self._transport.get_write_buffer_size() < MAX_UNSENT_BYTES // 2

    def close(self, code: CloseCode, text: str, retry_ms: int | None = None) -> None:
        """See `AppConnection.close`."""
        if self._state is not OPEN:
            return
        self._say_goodbye(code, text, retry_ms)
        self._leave()

    def ping(self) -> None:
        """See `Pingable.ping`."""
        if self._state is OPEN:
            self._transport.write(PING_FRAME)

    def give_up(self) -> None:
        """See `Pingable.give_up`. The peer will not read a close frame either."""
        self._fail(UNRESPONSIVE, "no sign of life")
        self._transport.abort()

    # For the server:

    def shutdown(self) -> None:
        """The server stops; the remaining apps were asked to close before."""
        self._fail(RESTART)

    # For the transport:

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed; earlier requests of the app are still carried out."""
        del exc
        was_in_hub = self._state in IN_HUB
        self.ended = self.ended or LOST
        self._become(CLOSED)
        self._server.connections.discard(self)
        self._shared.wheel.remove(self)
        if self._expiry is not None:
            self._expiry.cancel()
        if was_in_hub:
            self._leave()
        if self._frame_reader is not None:
            self._frame_reader.end()

    def data_received(self, data: bytes) -> None:
        """Process received bytes."""
        self.silence = 0
        if self._held:
            data = self._held + data
            self._held = b""
        if self._input is not TAKEN:
            self._held = data
            if len(data) > MAX_HELD_BYTES and self._input is HELD:
                self._input = PAUSED
                self._transport.pause_reading()
            return
        try:
            if self._frame_reader is None:
                self._read(data)
            else:
                self._read_carefully(data)
        except Exception:
            # An internal error ends this connection and no other.
            log.exception("connection_failed", uid=self.uid)
            self._transport.abort()

    # Internal:

    def _become(self, state: State) -> None:
        self._state = following(self._state, state)

    def _leave(self) -> None:
        self._shared.bridge.leave(self)
        log.debug("app_disconnected", uid=self.uid)

    def _greet(self, handshake: bytes, answer: UserData | StoreError) -> None:
        bridge = self._shared.bridge
        if isinstance(answer, StoreError):
            self._transport.write(handshake)
            self._say_goodbye(CloseCode.DRAIN, "the ledger cannot be written")
        else:
            self._welcome(handshake, answer)
            bridge.join(self, self._client, answer.turn)
        self._go_on()

    def _welcome(self, handshake: bytes, user: UserData) -> None:
        bridge = self._shared.bridge
        # In one write: the app reads both at once, and it costs half.
        greeting = established(bridge, self, user).encode()
        self._transport.write(handshake + _text_head(len(greeting)) + greeting)
        self._become(OPEN)
        if self.principal.expires_at is not None:
            left_s = max(self.principal.expires_at - bridge.clock.utc_now().timestamp(), 0.0)
            self._expiry = self._shared.loop.call_later(
                left_s, self.close, CloseCode.UNAUTHORISED, "the token has expired"
            )
        log.debug("app_connected", uid=self.uid, mode=self.mode)

    def _go_on(self) -> None:
        """The ledger has answered: carry out what came meanwhile."""
        was_paused = self._input is PAUSED
        self._input = TAKEN
        if was_paused and not self._transport.is_closing():
            self._transport.resume_reading()
        if self._frame_reader is not None:
            self._obey_all(self._frame_reader)
        if self._held and self._input is TAKEN:
            self.data_received(b"")

    def _read(self, data: bytes) -> None:
        """Cut ordinary frames; the last may be incomplete."""
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
                if first == TEXT and start < end and is_never_text(apply_mask(data[start:end], data[mask_at:start])):
                    self._fail(INVALID_TEXT)
                    return
                break
            at = start + length
            self._take(first, apply_mask(data[start:at], data[mask_at:start]))
            if self._frame_reader is not None or self._input is not TAKEN:
                break
        if at < end:
            self._held = data[at:]
            if self._frame_reader is not None and self._input is TAKEN:
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
        elif kind == PING and self._state is OPEN and not self._is_flooding():
            self._transport.write(bytes([PONG, len(payload)]) + payload)

    def _read_carefully(self, data: bytes) -> None:
        careful = self._be_careful()
        try:
            careful.feed(data)
        except EndlessError:
            self._transport.abort()
            return
        if careful.over:
            self._obey_all(careful)  # what came before the end is answered before the end
        if (output := careful.output) and not self._transport.is_closing() and not self._is_flooding():
            self._transport.write(output)
        if careful.over:
            self.ended = self.ended or careful.code
            self._become(ENDED_BY_APP)
            self._end()
        self._obey_all(careful)

    def _obey_all(self, careful: FrameReader) -> None:
        if self._state is CLOSING:
            careful.messages.clear()
        while careful.messages and self._input is TAKEN:
            self._obey(careful.messages.popleft())

    def _obey(self, message: str | bytes) -> None:
        """Carry out a message; input is HELD after it if the ledger must be asked."""
        shared = self._shared
        now = shared.bridge.clock.monotonic()
        if now >= self._window_ends:
            self._window_ends = now + shared.period_s
            self._spent = 0
        self._spent += 1
        if self._spent > shared.frames:
            self.close(CloseCode.RATE, "too many messages")
            return
        asked = obey(shared.bridge, self, message)
        if asked is not None:
            self._input = HELD
            task = shared.loop.create_task(self._wait_for(asked))
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
        """Whether the peer does not read the answers to its pings; then it is cut off."""
        if self._transport.get_write_buffer_size() <= MAX_UNSENT_BYTES:
            return False
        self._transport.abort()
        return True

    def _be_careful(self) -> FrameReader:
        if self._frame_reader is None:
            self._frame_reader = FrameReader()
        return self._frame_reader

    def _say_goodbye(self, code: CloseCode, text: str, retry_ms: int | None = None) -> None:
        careful = self._be_careful()
        self.ended = self.ended or code
        careful.close(code, close_reason(code, text, retry_ms))
        careful.messages.clear()
        self._transport.write(careful.output)
        self._become(CLOSING)
        self._shared.loop.call_later(CLOSE_TIMEOUT_S, self._transport.abort)

    def _fail(self, code: int, reason: str = "") -> None:
        if self._state is GREETING:
            # No frame may precede the answer to the handshake.
            self._become(CLOSED)
            self._transport.close()
            return
        careful = self._be_careful()
        self.ended = self.ended or code
        careful.fail(code, reason)
        careful.messages.clear()
        self._become(FAILED)
        if not self._transport.is_closing():
            self._transport.write(careful.output)
            self._end()

    def _end(self) -> None:
        self._transport.close()
        if self._transport.get_write_buffer_size():
            self._shared.loop.call_later(CLOSE_TIMEOUT_S, self._transport.abort)
