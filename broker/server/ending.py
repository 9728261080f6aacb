"""Whether something has ended, and the tasks that wait for it."""

import asyncio


class Ending:
    """As `asyncio.Event`, which takes 700 bytes for a queue of waiters; hardly a task waits here."""

    __slots__ = ("_is_set", "_waiter")

    def __init__(self, *, is_set: bool = False) -> None:
        self._is_set = is_set
        self._waiter: asyncio.Event | None = None

    def is_set(self) -> bool:
        """Whether it has ended."""
        return self._is_set

    def set(self) -> None:
        """It has ended; all waiting tasks go on."""
        self._is_set = True
        if self._waiter is not None:
            self._waiter.set()

    async def wait(self) -> None:
        """Return when it has ended."""
        if self._is_set:
            return
        if self._waiter is None:
            self._waiter = asyncio.Event()
        await self._waiter.wait()
