"""Serves an upgrade by the stream if it can, else by ASGI; for `uvicorn.Config(ws=...)`."""

import asyncio
from typing import ClassVar

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from bridge.auth.authenticator import Verdict
from bridge.service import Bridge
from bridge.websocket.asgi.endpoint import VERDICT
from bridge.websocket.asgi.uvicorn_protocol import AbortableProtocol
from bridge.websocket.stream.connection import StreamConnection, StreamServerState
from bridge.websocket.stream.handshake import HandshakeCheck
from infra.web.middleware import Origins


class StreamUpgrade(AbortableProtocol):
    """uvicorn's WebSocket class (ASGI), which first calls `take_over`."""

    admission: ClassVar[HandshakeCheck]
    shared: ClassVar[StreamServerState]
    _verdicts: ClassVar[dict[asyncio.BaseTransport, Verdict]] = {}
    """For handshakes between `take_over` and `connection_made`."""

    @classmethod
    def of(cls, bridge: Bridge, origins: Origins, turn_s: float) -> "type[StreamUpgrade]":
        """The class for one bridge; `turn_s` is that of its keep-alive."""
        shared = {"admission": HandshakeCheck(bridge, origins), "shared": StreamServerState(bridge, turn_s)}
        return type("StreamUpgradeOfBridge", (cls,), shared)

    @classmethod
    def take_over(cls, http: HttpToolsProtocol) -> bool:
        """Serve the connection whose upgrade was read; False: ASGI must serve it."""
        raw_path, _, query = http.url.partition(b"?")
        scope: Scope = {
            "type": "websocket",
            "scheme": "wss" if http.scheme == "https" else "ws",
            "client": http.client,
            "headers": http.headers,
            "raw_path": raw_path,
            "query_string": query,
        }
        admitted = cls.admission.admit(scope)
        if admitted is None:
            if (verdict := scope.get("verdict")) is not None:
                cls._verdicts[http.transport] = verdict
            return False
        connection = StreamConnection(cls.shared, http.transport, admitted, http.server_state)
        http.transport.set_protocol(connection)
        connection.begin(admitted.handshake)
        return True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Serve a connection by ASGI that was not taken over."""
        self._verdict = self._verdicts.pop(transport, None)
        super().connection_made(transport)

    async def run_asgi(self) -> None:
        """Serve this connection."""
        if self._verdict is not None:
            self.scope["extensions"][VERDICT] = {"verdict": self._verdict}
        await super().run_asgi()
