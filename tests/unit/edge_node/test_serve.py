"""A node as a process runs it, on this loop: what ends it, and what it leaves."""

import asyncio
import io
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from contract.errors import StartError
from edge_node import serve as module
from edge_node.audio.sources import AudioSource, PacedSource, Pacer, SourceOptions
from edge_node.display.events import ConsoleIndicator, Events
from edge_node.serve import ListenerFailedError, serve
from edge_node.session.state_file import StateFile
from infra.settings.edge import EdgeSettings
from infra.settings.loader import Settings
from tests.support.ports import free_port
from tests.support.waiting import wait_until


class Source(PacedSource):
    """Silence at its own pace, until it is closed or told to end."""

    def __init__(self, *, samples: int = 0) -> None:
        super().__init__(np.zeros(samples, np.int16), Pacer() if not samples else None, endless=not samples)
        self.closes = 0
        self.error: Exception | None = None

    def __iter__(self) -> Any:
        for frame in super().__iter__():
            if self.error is not None:
                raise self.error
            yield frame

    def close(self) -> None:
        self.closes += 1
        super().close()


class Lamp(ConsoleIndicator):
    closes = 0

    def close(self) -> None:
        self.closes += 1


class Process:
    """A node over HTTP, whose source a test has in its hand."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, source: Source | None = None) -> None:
        self.folder = folder
        self.source = source or Source()
        self.out = io.StringIO()
        self.lamp = lamp = Lamp(Events(self.out, as_json=True))
        monkeypatch.setattr(module, "open_indicator", lambda *_: lamp)
        self.port = free_port()
        edge = EdgeSettings(
            uplink="http", bridge_url="http://127.0.0.1:1", uid="alice", state_dir=folder, http_port=self.port
        )
        self.task = asyncio.create_task(
            serve(Settings(edge=edge), "jetson", Events(self.out, as_json=True), open_source=self._open)
        )

    def _open(self, _spec: str, _options: SourceOptions) -> AudioSource:
        return self.source

    def told(self, event: str) -> list[dict[str, Any]]:
        lines: list[dict[str, Any]] = [json.loads(line) for line in self.out.getvalue().splitlines()]
        return [line for line in lines if line["event"] == event]

    async def listens(self) -> None:
        await wait_until("it listens", lambda: self.task.done() or self.told("listening"))
        assert not self.task.done(), self.task

    async def healthy(self) -> bool:
        async with httpx2.AsyncClient(trust_env=False) as client:
            return (await client.get(f"http://127.0.0.1:{self.port}/metrics")).is_success

    def has_left_all(self) -> bool:
        """The source is closed, the light is off, the state is another process's if it wants it."""
        state = StateFile(self.folder, "jetson")
        state.open()
        state.close()
        return self.source.closes > 0 and self.lamp.closes > 0


def failing(fault: asyncio.Event) -> Callable[..., Awaitable[None]]:
    async def fail(*_: object) -> None:
        await fault.wait()
        raise RuntimeError("an internal error")

    return fail


@pytest.mark.parametrize(
    "where",
    [
        "edge_node.uplink.http.HttpNode.run",
        "edge_node.listening.service.ListeningService.watch",
        "infra.expiry.watch",
        "infra.web.server.Server.main_loop",
    ],
)
async def test_an_internal_error_ends_the_process_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    fault = asyncio.Event()
    monkeypatch.setattr(where, failing(fault))
    process = Process(tmp_path, monkeypatch)
    await process.listens()
    await wait_until("it serves", lambda: process.task.done() or _names() >= {"http", "node", "watchdog", "expiry"})
    fault.set()
    with pytest.raises(RuntimeError, match="an internal error"):
        await asyncio.wait_for(process.task, 20)
    assert process.has_left_all()


async def test_a_source_that_fails_ends_the_process_with_its_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = Process(tmp_path, monkeypatch)
    await process.listens()
    assert await process.healthy()
    process.source.error = OSError("the cable was pulled")
    with pytest.raises(ListenerFailedError, match="the cable was pulled"):
        await asyncio.wait_for(process.task, 20)
    assert process.has_left_all()


async def test_a_source_that_ends_ends_the_process_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = Process(tmp_path, monkeypatch, Source(samples=16_000))
    await asyncio.wait_for(process.task, 20)
    assert process.has_left_all()


async def test_a_process_that_is_cancelled_leaves_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = asyncio.all_tasks()
    process = Process(tmp_path, monkeypatch)
    await process.listens()
    process.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(process.task, 20)
    assert process.has_left_all()
    await wait_until("no task is left", lambda: asyncio.all_tasks() == before)


async def test_what_was_opened_is_closed_if_something_else_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_lamp(*_: object) -> None:
        raise StartError("no lamp")

    process = Process(tmp_path, monkeypatch)
    monkeypatch.setattr(module, "open_indicator", no_lamp)
    with pytest.raises(StartError, match="no lamp"):
        await asyncio.wait_for(process.task, 20)
    assert process.source.closes > 0


def _names() -> set[str]:
    return {task.get_name() for task in asyncio.all_tasks()}
