"""Refuses newcomers while the bridge closes its sockets, so that a proxy asks the next bridge."""

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from bridge.service import Bridge

STILL_ANSWERED = frozenset({"/livez", "/readyz", "/metrics"})
RETRY_AFTER_S = 1


class Closing:
    """An ASGI middleware around an application: 503 with Retry-After, for WebSockets too, before anything is read."""

    def __init__(self, app: ASGIApp, bridge: Bridge) -> None:
        self._app = app
        self._bridge = bridge

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if not self._bridge.closing or scope["path"] in STILL_ANSWERED:
            await self._app(scope, receive, send)
            return
        detail = "this bridge ends; nothing was changed, try again"
        headers = {"retry-after": str(RETRY_AFTER_S), "connection": "close"}
        refusal = JSONResponse({"detail": detail}, 503, headers)
        if scope["type"] == "websocket":
            await WebSocket(scope, receive, send).send_denial_response(refusal)
        else:
            await refusal(scope, receive, send)
