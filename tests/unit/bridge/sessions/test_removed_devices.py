"""Which status is cleared when: the ledger decides at each look, and what could not be sent is looked at again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bridge.sessions.removed_devices import LOOK_EVERY_S, Leftovers
from bridge.storage.memory import MemoryStore
from bridge.storage.records import Device
from bridge.storage.store import StoreError
from tests.support.clock import ManualClock


class Broker:
    """What is cleared there, while it is reached."""

    def __init__(self) -> None:
        self.cleared: list[str] = []
        self.is_reached = True
        self.tries = 0

    def clear(self, device_id: str) -> bool:
        self.tries += 1
        if self.is_reached:
            self.cleared.append(device_id)
        return self.is_reached


class Ledger(MemoryStore):
    """A store that may fail to be read."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        self.fails = False
        self.reads = 0

    async def removed(self) -> set[str]:
        self.reads += 1
        if self.fails:
            raise StoreError("the disk is gone")
        return await super().removed()

    def put(self, device_id: str, state: str) -> None:
        self.tables.devices[device_id] = Device(device_id, state=state)  # type: ignore[arg-type]


@asynccontextmanager
async def looking(ledger: Ledger, broker: Broker) -> AsyncIterator[Leftovers]:
    it = Leftovers(ledger, broker.clear, ledger.clock)
    task = asyncio.create_task(it.run())
    try:
        yield it
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_only_removed_devices_are_cleared_and_many_are_asked_about_together() -> None:
    ledger, broker = Ledger(), Broker()
    ledger.put("gone-1", "removed")
    ledger.put("gone-2", "removed")
    ledger.put("here", "added")
    async with looking(ledger, broker) as it:
        for device_id in ("gone-1", "here", "gone-2", "unknown"):
            it.seen(device_id)
        await ledger.clock.run(0)
        assert (sorted(broker.cleared), ledger.reads) == (["gone-1", "gone-2"], 1)
        it.seen("gone-1")
        await ledger.clock.run(LOOK_EVERY_S / 2, step_s=LOOK_EVERY_S / 2)
        assert ledger.reads == 1, "however many statuses come, it asks no oftener"
        await ledger.clock.run(LOOK_EVERY_S / 2, step_s=LOOK_EVERY_S / 2)
        assert broker.cleared.count("gone-1") == 2
    assert "here" not in broker.cleared
    assert broker.cleared.count("gone-2") == 1


async def test_what_was_not_sent_is_sent_later_unless_the_device_was_added_again_meanwhile() -> None:
    ledger, broker = Ledger(), Broker()
    ledger.put("gone", "removed")
    ledger.put("comes back", "removed")
    broker.is_reached = False
    async with looking(ledger, broker) as it:
        it.seen("gone")
        it.seen("comes back")
        await ledger.clock.run(0)
        assert broker.tries == 2
        ledger.put("comes back", "added")
        broker.is_reached = True
        await ledger.clock.run(LOOK_EVERY_S)
        assert broker.cleared == ["gone"]
        it.seen("gone")
        await ledger.clock.run(LOOK_EVERY_S)
    assert broker.cleared == ["gone", "gone"]
    assert "comes back" not in broker.cleared


async def test_a_ledger_that_cannot_be_read_is_asked_again() -> None:
    ledger, broker = Ledger(), Broker()
    ledger.put("gone", "removed")
    ledger.fails = True
    async with looking(ledger, broker) as it:
        it.seen("gone")
        await ledger.clock.run(LOOK_EVERY_S)
        assert (ledger.reads, broker.cleared) == (2, [])
        ledger.fails = False
        await ledger.clock.run(LOOK_EVERY_S)
        assert broker.cleared == ["gone"]
