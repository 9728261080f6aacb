import asyncio
from collections.abc import Sequence

import pytest

from bridge.sessions.durable_deadlines import DurableDeadlines
from bridge.sessions.ledger import Ledger, LedgerTurn
from bridge.sessions.rules.liveness import Liveness
from bridge.storage.memory import MemoryStore
from bridge.storage.news import News
from infra.settings.bridge import BridgeSettings
from tests.support.clock import ManualClock


def nothing_new(news: Sequence[News]) -> None:
    assert not news


def no_time(seconds: float, asked_at: float) -> None:
    raise AssertionError(f"the ledger is not shared: {seconds}, {asked_at}")


async def test_turns_are_taken_one_after_another_in_the_order_asked() -> None:
    ledger = Ledger(MemoryStore(), nothing_new, ManualClock(), no_time)
    served: list[int] = []

    async def serve(number: int) -> None:
        async with ledger.exclusive() as turn:
            assert ledger.is_busy
            served.append(number)
            async with turn.transaction():
                await asyncio.sleep(0)
            served.append(number)

    await asyncio.gather(*(serve(number) for number in range(3)))
    assert served == [0, 0, 1, 1, 2, 2]
    assert not ledger.is_busy


async def test_a_turn_that_is_over_begins_no_transaction_and_the_next_one_is_free() -> None:
    ledger = Ledger(MemoryStore(), nothing_new, ManualClock(), no_time)
    with pytest.raises(ValueError, match="a mistake"):
        async with ledger.exclusive() as turn:
            raise ValueError("a mistake")
    with pytest.raises(RuntimeError, match="over"):
        turn.transaction()
    async with ledger.exclusive() as another, another.transaction():
        pass


async def test_only_the_ledger_makes_a_turn() -> None:
    """Each `ignore` is an error of mypy that is wanted: it reports one that is not needed."""
    with pytest.raises(TypeError):
        LedgerTurn()  # type: ignore[abstract]
    store, clock = MemoryStore(), ManualClock()
    durable_deadlines = DurableDeadlines(Liveness(BridgeSettings(), clock), clock)
    await durable_deadlines.write(store)  # type: ignore[arg-type]
    await durable_deadlines.write(Ledger(store, nothing_new, clock, no_time).exclusive())  # type: ignore[arg-type]
