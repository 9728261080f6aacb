import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE_S = 45.0
LOOK_EVERY_S = 0.02


def wait_for(what: str, condition: Callable[[], T | None], within_s: float = PATIENCE_S) -> T:
    """The condition's first true result; AssertionError that says what did not come true."""
    deadline = time.monotonic() + within_s
    while True:
        result = condition()
        if result:
            return result
        assert time.monotonic() < deadline, f"waited {within_s:.0f} s in vain for: {what}"
        time.sleep(LOOK_EVERY_S)


async def wait_until(what: str, condition: Callable[[], T | None], within_s: float = PATIENCE_S) -> T:
    """The same on an event loop."""
    deadline = time.monotonic() + within_s
    while True:
        result = condition()
        if result:
            return result
        assert time.monotonic() < deadline, f"waited {within_s:.0f} s in vain for: {what}"
        await asyncio.sleep(LOOK_EVERY_S)


async def loop_time_passes(seconds: float) -> None:
    """Move the clock of the running loop; what its timers then do is done. No time passes elsewhere."""
    loop = asyncio.get_running_loop()
    before = loop.time
    loop.time = lambda: before() + seconds  # type: ignore[method-assign]
    for _ in range(20):
        await asyncio.sleep(0)
