"""An app's WebSocket by ASGI: a reader, a writer, a bounded number of unsent bytes."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from bridge.apps.connection import CLOSE_TIMEOUT_S, MAX_UNSENT_BYTES
from bridge.apps.protocol import Frames, close_reason
from bridge.auth.principals import EVERYBODY, Principal
from bridge.websocket.asgi.uvicorn_protocol import abort
from contract.app_socket import LOST, SUBPROTOCOL_V2, CloseCode, Mode
from infra.telemetry import get_logger

log = get_logger("connection")


class AsgiConnection:
    """An AppConnection on Starlette's WebSocket.

    Any code on the loop may call `send` and `close`; `serve` owns the socket and ends when it is closed.
    """

    def __init__(
        self, websocket: WebSocket, uid: str, mode: Mode, principal: Principal = EVERYBODY, address: str = ""
    ) -> None:
        self.uid = uid
        self.mode = mode
        self.principal = principal
        self.frames = Frames(mode)
        self.misunderstood = False
        self.label = ""
        self.ended = 0
        self.address = address
        self._websocket = websocket
        self._unsent: deque[str] = deque()
        self._unsent_bytes = 0
        self._closing: tuple[CloseCode, str] | None = None
        self._wake_up = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        # A request is carried out even if its app has gone by then; above all a log-out.
        self._obeying = False
        self._leaving = False

    def send(self, frame: str) -> bool:
        """See `AppConnection.send`."""
        if self._closing is not None:
            return False
        size = len(frame.encode())
        if self._unsent_bytes + size > MAX_UNSENT_BYTES:
            self._unsent.clear()
            self.close(CloseCode.SLOW_CONSUMER, "too slow a reader")
            return False
        self._unsent_bytes += size
        self._unsent.append(frame)
        self._wake_up.set()
        return True

    @property
    def has_room(self) -> bool:
        """See `AppConnection.has_room`."""
        return self._unsent_bytes < MAX_UNSENT_BYTES // 2

    def close(self, code: CloseCode, text: str, retry_ms: int | None = None) -> None:
        """See `AppConnection.close`."""
        if self._closing is None:
            self._closing = (code, close_reason(code, text, retry_ms))
            self.ended = self.ended or code
            self._wake_up.set()
            asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, self._give_up)

    async def serve(self, on_frame: Callable[[str | bytes], Awaitable[None]]) -> None:
        """Read and write until either side closes; `on_frame` gets the frames one after another."""
        reader = asyncio.create_task(self._read(on_frame), name=f"app-reader {id(self)}")
        self._writer = asyncio.create_task(self._write(), name=f"app-writer {id(self)}")
        try:
            await asyncio.wait([reader, self._writer], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._closing = self._closing or (CloseCode.GOING_AWAY, "")
            self._leaving = True
            if not self._obeying:
                reader.cancel()
            self._writer.cancel()
            results = await asyncio.gather(reader, self._writer, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception) and not _is_end(result):
                log.error("connection_failed", uid=self.uid, error=repr(result))

    async def _read(self, on_frame: Callable[[str | bytes], Awaitable[None]]) -> None:
        while True:
            message = await self._websocket.receive()
            if message["type"] == "websocket.disconnect":
                self.ended = self.ended or message.get("code") or LOST
                return
            text = message.get("text")
            self._obeying = True
            await on_frame(message["bytes"] if text is None else text)
            self._obeying = False
            if self._leaving:
                return

    async def _write(self) -> None:
        while self._unsent or self._closing is None:
            if not self._unsent:
                self._wake_up.clear()
                await self._wake_up.wait()
                continue
            frame = self._unsent.popleft()
            await self._websocket.send_text(frame)  # waits while the peer does not read
            self._unsent_bytes -= len(frame.encode())
        code, reason = self._closing
        await self._websocket.close(code, reason)

    def _give_up(self) -> None:
        """The peer does not read, so it will not read a close frame either: drop the socket."""
        if self._writer is not None and not self._writer.done():
            abort(self._websocket)
            self._writer.cancel()


def _is_end(error: Exception) -> bool:
    """What Starlette raises if the peer closed first."""
    return isinstance(error, WebSocketDisconnect | RuntimeError)


async def refuse(websocket: WebSocket, code: CloseCode, text: str, retry_ms: int | None = None) -> None:
    """Accept and close at once: only so the app receives the reason."""
    if websocket.client_state is WebSocketState.CONNECTING:
        # A browser that offers subprotocols and gets none treats it as a failed handshake, and its app sees 1006.
        await websocket.accept(SUBPROTOCOL_V2 if SUBPROTOCOL_V2 in websocket.scope["subprotocols"] else None)
    await websocket.close(code, close_reason(code, text, retry_ms))
