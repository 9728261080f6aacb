import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from contract.errors import StartError
from infra.tasks import Tasks


async def _for_ever(ends: list[str], name: str) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        ends.append(name)


async def _fail(error: Exception) -> None:
    await asyncio.sleep(0)
    raise error


async def test_what_runs_at_the_end_of_the_block_is_cancelled_and_waited_for() -> None:
    ends: list[str] = []
    async with Tasks() as tasks:
        task = tasks.start(_for_ever(ends, "a"), "the name")
        await asyncio.sleep(0)
        assert (len(tasks), task.get_name(), ends) == (1, "the name", [])
    assert (len(tasks), ends, task.cancelled()) == (0, ["a"], True)


async def test_a_task_that_returns_ends_nothing() -> None:
    async with Tasks() as tasks:
        task = tasks.start(asyncio.sleep(0, "done"), "short")
        await asyncio.sleep(0.01)
        assert (task.result(), len(tasks)) == ("done", 0)


async def test_a_fault_ends_the_block_and_the_others_and_is_raised_by_itself() -> None:
    ends: list[str] = []
    fault = RuntimeError("an internal error")

    async def block() -> None:
        async with asyncio.timeout(5), Tasks() as tasks:
            tasks.start(_for_ever(ends, "other"), "other")
            tasks.start(_fail(fault), "failing")
            await asyncio.Event().wait()

    with pytest.raises(RuntimeError) as raised:
        await block()
    assert (raised.value, ends) == (fault, ["other"])
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]


async def test_the_block_of_an_outer_context_ends_by_the_fault_of_a_task_within() -> None:
    @asynccontextmanager
    async def running() -> AsyncIterator[None]:
        async with Tasks() as tasks:
            tasks.start(_fail(StartError("no broker")), "failing")
            yield

    last: list[str] = []

    async def block() -> None:
        async with asyncio.timeout(5), running():
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0.01)  # there is time to say farewell
                last.append("farewell")

    with pytest.raises(StartError, match="no broker"):
        await block()
    assert last == ["farewell"]


async def test_faults_at_the_end_are_notes_of_what_the_block_raises() -> None:
    async def fail_when_cancelled() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("at the end")

    async def block() -> None:
        async with Tasks() as tasks:
            tasks.start(fail_when_cancelled(), "failing")
            await asyncio.sleep(0)
            raise StartError("the port is taken")

    with pytest.raises(StartError, match="the port is taken") as raised:
        await block()
    assert raised.value.__notes__ == ["and ValueError('at the end')"]


async def test_what_a_fault_made_fail_is_a_note_of_the_fault() -> None:
    async def block() -> None:
        async with Tasks() as tasks:
            tasks.start(_fail(StartError("no broker")), "failing")
            try:
                await asyncio.Event().wait()
            finally:
                raise ValueError("no farewell")

    with pytest.raises(StartError, match="no broker") as raised:
        await block()
    assert raised.value.__notes__ == ["and ValueError('no farewell')"]


async def test_a_block_that_is_cancelled_stays_cancelled() -> None:
    ends: list[str] = []

    async def block() -> None:
        async with Tasks() as tasks:
            tasks.start(_for_ever(ends, "a"), "a")
            await asyncio.Event().wait()

    task = asyncio.create_task(block())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ends == ["a"]
