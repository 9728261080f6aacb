import asyncio

from bridge.loop_lag import EVERY_S, LoopLag
from tests.support.clock import ManualClock


async def test_the_longest_lag_of_the_last_minute_is_told_and_then_forgotten() -> None:
    clock = ManualClock()
    lag = LoopLag(clock)
    assert lag.seconds == 0.0
    running = asyncio.create_task(lag.run())

    async def turn(seconds: float) -> None:
        await asyncio.sleep(0)
        clock.advance(seconds)
        await asyncio.sleep(0)

    await turn(EVERY_S + 0.2)
    await turn(EVERY_S)
    assert round(lag.seconds, 6) == 0.2
    for _ in range(120):
        await turn(EVERY_S)
    assert round(lag.seconds, 6) == 0.0
    running.cancel()
