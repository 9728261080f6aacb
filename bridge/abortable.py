"""uvicorn's WebSocket, with a way to drop a peer that reads nothing.

uvicorn closes a connection only after everything unsent was read, which such a peer never does.
"""

from collections.abc import Callable

from starlette.websockets import WebSocket
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

_ABORT = "sarvis.abort"


class AbortableProtocol(WebSocketsSansIOProtocol):
    """Hands the transport's `abort` to the application."""

    async def run_asgi(self) -> None:
        """Serve this connection."""
        self.scope["extensions"][_ABORT] = {"abort": self.transport.abort}
        await super().run_asgi()


def abort(websocket: WebSocket) -> None:
    """Drop the connection at once, unsent bytes and all; without effect under another server."""
    extension = websocket.scope.get("extensions", {}).get(_ABORT)
    if extension is not None:
        drop: Callable[[], None] = extension["abort"]
        drop()
