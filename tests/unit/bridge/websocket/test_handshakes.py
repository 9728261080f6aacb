"""Handshakes are counted once, whichever way judges them. A real server, the ledger in memory."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import pytest
import uvicorn
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from bridge.api.app import create_app, origins_of
from bridge.auth import api_keys
from bridge.auth.authenticator import TOO_MANY
from bridge.websocket.asgi.uvicorn_protocol import AbortableProtocol
from bridge.websocket.stream.upgrade import StreamUpgrade
from infra.web.http_protocol import PunctualProtocol
from infra.web.server import Server, listen
from tests.support.harness.bridge import BridgeHarness

KEY = api_keys.make("server", "caller", "now", None)
ways = pytest.mark.parametrize("way", ["fast", "plain"])


class ServingHarness(BridgeHarness):
    """A bridge that serves apps one way."""

    def __init__(self, folder: Path, way: str, **limits: str) -> None:
        super().__init__(folder, auth={"mode": "required"}, limits=limits, bridge={"websocket": way})

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        origins = origins_of(self.bridge)
        is_fast = self.bridge.settings.bridge.websocket == "fast"
        config = uvicorn.Config(
            create_app(self.bridge),
            log_config=None,
            lifespan="off",
            http=PunctualProtocol,
            ws=StreamUpgrade.of(self.bridge, origins, 10) if is_fast else AbortableProtocol,
        )
        sock = listen("the test", "127.0.0.1", 0, option="--port")
        self._port = sock.getsockname()[1]
        server = Server(config)
        task = asyncio.create_task(server.serve(sockets=[sock]))
        try:
            yield
        finally:
            server.should_exit = True
            await task

    async def knock(self, credential: str | None) -> Literal["refused", "too many"]:
        """What becomes of a handshake that is not let in."""
        offered = [Subprotocol("sarvis.v2"), *([Subprotocol(credential)] if credential else [])]
        try:
            async with connect(f"ws://127.0.0.1:{self._port}/ws/app/alice/", subprotocols=offered, proxy=None) as app:
                await app.recv()
        except ConnectionClosed:
            return "refused"
        except InvalidStatus as denied:
            return "too many" if denied.response.status_code == TOO_MANY else "refused"
        raise AssertionError("it was let in")


@ways
@pytest.mark.parametrize("shown", ["nothing", "rubbish", "a token for bob", "an API key"])
async def test_a_handshake_that_is_refused_counts_once_for_its_address(tmp_path: Path, way: str, shown: str) -> None:
    harness = ServingHarness(tmp_path, way, address="3/minute")
    credential = {"nothing": None, "rubbish": "a.b.c", "a token for bob": harness.token("bob"), "an API key": KEY.text}[
        shown
    ]
    harness.knows(KEY)
    async with harness.serving():
        told = [await harness.knock(credential) for _ in range(5)]
    assert told == ["refused"] * 3 + ["too many"] * 2


@ways
async def test_a_token_for_another_user_is_counted_once_each_time(tmp_path: Path, way: str) -> None:
    harness = ServingHarness(tmp_path, way, app="2/minute")
    async with harness.serving():
        told = [await harness.knock(harness.token("bob")) for _ in range(3)]
    assert told == ["refused", "refused", "too many"]


@ways
async def test_a_wrong_credential_is_one_failure(tmp_path: Path, way: str) -> None:
    harness = ServingHarness(tmp_path, way, failures="2/minute")
    async with harness.serving():
        told = [await harness.knock("a.b.c") for _ in range(3)]
    assert told == ["refused", "refused", "too many"]
