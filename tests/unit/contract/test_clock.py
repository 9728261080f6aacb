import asyncio

from contract.clock import Stamps, SystemClock, iso
from tests.support.clock import ManualClock, settle


def test_the_stamps_of_a_millisecond_are_the_same_and_none_is_older() -> None:
    clock = ManualClock()
    stamps = Stamps(clock)
    first = stamps.now()
    assert first == iso(clock.utc_now())
    clock.advance(0.0009)
    assert stamps.now() == first
    clock.advance(0.0002)
    assert stamps.now() == iso(clock.utc_now()) != first


def test_the_systems_clock_tells_aware_time_that_does_not_go_back() -> None:
    clock = SystemClock()
    assert iso(clock.utc_now()).endswith("+00:00")
    assert clock.monotonic() <= clock.monotonic()


async def test_the_systems_clock_sleeps_and_waits_no_longer_than_for_an_event() -> None:
    clock, event = SystemClock(), asyncio.Event()
    began = clock.monotonic()
    await clock.sleep(0.05)
    assert clock.monotonic() - began >= 0.045
    assert not await clock.wait(event, 0.01)
    asyncio.get_running_loop().call_later(0.01, event.set)
    assert await clock.wait(event, 20)
    assert await clock.wait(event, 0), "it was set before"
    assert clock.monotonic() - began < 10


async def test_on_a_manual_clock_sleepers_wake_up_at_their_times_and_in_their_order() -> None:
    clock, event = ManualClock(), asyncio.Event()
    woken: list[str] = []

    async def sleep(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(name)

    async def wait(name: str, seconds: float) -> None:
        woken.append(f"{name} {await clock.wait(event, seconds)}")

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(sleep("third", 3))
        tasks.create_task(sleep("first", 1))
        tasks.create_task(wait("second", 2))
        tasks.create_task(wait("event", 60))
        await settle()
        assert (clock.sleepers, woken) == (4, [])
        clock.advance(0.9)
        await settle()
        assert woken == []
        clock.advance(2.1)
        await settle()
        assert sorted(woken) == ["first", "second False", "third"]
        assert woken.index("first") < woken.index("third")
        event.set()
    assert (woken[-1], clock.sleepers) == ("event True", 0)
