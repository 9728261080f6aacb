"""Serves the documented trigger without FastAPI if there is nothing to refuse.

Authentication is the same. Every other request goes on to the application, whose endpoint (`bridge/api/legacy.py`)
names each fault.
"""

from pydantic import ValidationError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bridge.api.event_ids import EVENT_HEADER, KEY_HEADER
from bridge.api.legacy import TRIGGER_PATH, Trigger, ring
from bridge.auth.middleware import AuthMiddleware
from bridge.service import Bridge
from contract.messages import new_id
from infra.web.api import Result, replay
from infra.web.middleware import Origins


class FastTrigger:
    """An ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, bridge: Bridge, origins: Origins) -> None:
        self._app = app
        self._bridge = bridge
        self._origins = origins
        self._doorkeeper = AuthMiddleware(app, bridge.authenticator)
        self._max_bytes = bridge.settings.bridge.max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        if scope["type"] != "http" or scope["path"] != TRIGGER_PATH or not self._is_plain(scope):
            await self._app(scope, receive, send)
            return
        refusal = await self._doorkeeper.judge(scope)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        message = await receive()
        body = message.get("body", b"")
        if message["type"] != "http.request" or message.get("more_body", False):
            await self._app(scope, _given(message, receive), send)
            return
        try:
            asked = Trigger.model_validate_json(body)
        except ValidationError:
            await self._app(scope, replay(body, receive), send)
            return
        wake_id = new_id()
        rung = await ring(self._bridge, asked, wake_id)
        await send(_start(rung, wake_id))
        await send(_BODIES[rung])

    def _is_plain(self, scope: Scope) -> bool:
        """Whether it is a POST with a short body of known length, and not from a web page."""
        length = None
        for name, value in scope["headers"]:
            if name == b"content-length":
                length = value
            elif name in {b"origin", b"expect", KEY_HEADER.encode()}:
                return False
        return (
            scope["method"] == "POST"
            and length is not None
            and length.isdigit()
            and int(length) <= self._max_bytes
            and self._origins.refusal(scope) is None
        )


def _start(rung: bool, wake_id: str) -> Message:
    """The answer's beginning."""
    headers = [*_HEADERS[rung], (_EVENT_HEADER, wake_id.encode())]
    return {"type": "http.response.start", "status": 200, "headers": headers}


def _given(message: Message, receive: Receive) -> Receive:
    """An ASGI receive that first returns a message that was already taken."""
    waiting = [message]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return again


_TEXTS = {
    True: Result(success=True, message="Command sent").model_dump_json().encode(),
    False: Result(success=False, message="User not connected").model_dump_json().encode(),
}
_HEADERS = {
    rung: [(b"content-length", str(len(text)).encode()), (b"content-type", b"application/json")]
    for rung, text in _TEXTS.items()
}
_EVENT_HEADER = EVENT_HEADER.encode()
_BODIES = {rung: {"type": "http.response.body", "body": text} for rung, text in _TEXTS.items()}
