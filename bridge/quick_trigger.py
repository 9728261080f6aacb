"""The documented trigger without FastAPI, for bodies with nothing to refuse: what legacy callers ask all day.

Everything else goes on to the endpoint of the same path (`bridge.shim`), which has the words for every fault.
"""

from pydantic import ValidationError
from starlette.types import ASGIApp, Receive, Scope, Send

from bridge.service import Bridge
from bridge.shim import TRIGGER_PATH, Trigger, ring
from contract.web import Result, replay


class QuickTrigger:
    """ASGI middleware; the body's size has been limited before it."""

    def __init__(self, app: ASGIApp, bridge: Bridge) -> None:
        self._app = app
        self._bridge = bridge

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http" or scope["path"] != TRIGGER_PATH or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        message = await receive()
        body = message.get("body", b"")
        try:
            rung = ring(self._bridge, Trigger.model_validate_json(body))
        except ValidationError:
            await self._app(scope, replay(body, receive), send)
            return
        await send(_STARTS[rung])
        await send(_BODIES[rung])


_TEXTS = {
    True: Result(success=True, message="Command sent").model_dump_json().encode(),
    False: Result(success=False, message="User not connected").model_dump_json().encode(),
}
_STARTS = {
    rung: {
        "type": "http.response.start",
        "status": 200,
        "headers": [(b"content-length", str(len(text)).encode()), (b"content-type", b"application/json")],
    }
    for rung, text in _TEXTS.items()
}
_BODIES = {rung: {"type": "http.response.body", "body": text} for rung, text in _TEXTS.items()}
