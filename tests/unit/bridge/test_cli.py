"""A bridge as a process runs it, on this loop: what ends it, and how apps are sent away then."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect

from bridge import cli
from contract.app_socket import CloseCode
from infra.settings.bridge import BridgeSettings, StoreSettings
from infra.settings.broker import MqttSettings
from infra.settings.loader import Settings
from infra.web.server import Server
from tests.support.ports import free_port
from tests.support.waiting import wait_until


class Served:
    """A bridge that serves, with one app."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.settings = Settings(
            bridge=BridgeSettings(port=self.port),
            mqtt=MqttSettings(url=f"mqtt://127.0.0.1:{free_port()}"),
            store=StoreSettings(url=f"sqlite:///{folder / 'ledger.db'}"),
        )

    @asynccontextmanager
    async def app(self) -> AsyncIterator[tuple["asyncio.Task[None]", ClientConnection]]:
        serving = asyncio.create_task(cli.serve(self.settings))
        try:
            await wait_until("it listens", lambda: serving.done() or self._listens())
            async with connect(f"ws://127.0.0.1:{self.port}/ws/app/alice", proxy=None) as socket:
                assert "connection_established" in str(await socket.recv())
                yield serving, socket
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)

    def _listens(self) -> bool:
        return any(task.get_name() == "http" for task in asyncio.all_tasks())


@pytest.fixture(autouse=True)
def _others_need_the_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "_spare_the_collector", lambda: None)


@pytest.fixture
def fault() -> asyncio.Event:
    return asyncio.Event()


def failing(fault: asyncio.Event) -> Callable[..., Awaitable[None]]:
    async def fail(*_: object) -> None:
        await fault.wait()
        raise RuntimeError("an internal error")

    return fail


async def sent_away(socket: ClientConnection) -> int | None:
    async with asyncio.timeout(20):
        await socket.wait_closed()
    return socket.close_code


@pytest.mark.parametrize(
    "where", ["bridge.service.Bridge._prune", "infra.mqtt.session.MqttSession.run", "infra.expiry.watch"]
)
async def test_an_internal_error_ends_the_process_with_it_and_apps_are_sent_away_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: asyncio.Event, where: str
) -> None:
    monkeypatch.setattr(where, failing(fault))
    async with Served(tmp_path).app() as (serving, socket):
        await asyncio.sleep(0)
        assert not serving.done()
        fault.set()
        assert await sent_away(socket) == CloseCode.DRAIN
        with pytest.raises(RuntimeError, match="an internal error"):
            await serving


async def test_a_server_that_fails_ends_the_process_with_its_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: asyncio.Event
) -> None:
    monkeypatch.setattr(Server, "main_loop", failing(fault))
    async with Served(tmp_path).app() as (serving, _socket):
        fault.set()
        with pytest.raises(RuntimeError, match="an internal error"):
            await asyncio.wait_for(serving, 20)


async def test_a_bridge_that_is_cancelled_sends_its_apps_away_and_leaves_no_task(tmp_path: Path) -> None:
    before = asyncio.all_tasks()
    async with Served(tmp_path).app() as (serving, socket):
        serving.cancel()
        assert await sent_away(socket) == CloseCode.DRAIN
        with pytest.raises(asyncio.CancelledError):
            await serving
    await wait_until("no task is left", lambda: asyncio.all_tasks() == before)
