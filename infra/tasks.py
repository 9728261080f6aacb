"""Tasks that run beside a block and end with it."""

import asyncio
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")


class Tasks:
    """`async with Tasks() as tasks`: what still runs at the end of the block is cancelled, and waited for.

    The fault of one task cancels the others and the block, which raises it by itself, not in a group; faults that come
    after the first one are notes of it. A task that only returns ends nothing.
    """

    def __init__(self) -> None:
        self._group = asyncio.TaskGroup()
        self._running: set[asyncio.Task[Any]] = set()
        self._fault: BaseException | None = None

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        first = self._fault or error
        for task in list(self._running):
            task.cancel()
        try:
            await self._group.__aexit__(kind, error, trace)
        except BaseExceptionGroup as group:
            faults = group.exceptions
        else:
            return
        cause = first if first is not None and first in faults else faults[0]
        for fault in faults:
            if fault is not cause:
                cause.add_note(f"and {fault!r}")
        if cause is not error:  # else it goes on by itself
            raise cause

    def __len__(self) -> int:
        return len(self._running)

    def start(self, coroutine: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Begin; the task has this name."""
        task = self._group.create_task(coroutine, name=name)
        self._running.add(task)
        task.add_done_callback(self._over)
        return task

    def _over(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            self._fault = self._fault or task.exception()
