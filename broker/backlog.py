"""Messages that wait for a client who is away, counted in bytes; decides without I/O."""

import asyncio
from dataclasses import dataclass

from broker.journal import Message

OVERHEAD_BYTES = 512
"""What Python keeps beside topic and payload of a message, or beside a filter in its tables."""


def cost(message: Message) -> int:
    """What a message costs while it is kept, in bytes; a payload that several clients wait for counts for each."""
    return len(message.topic) + len(message.data) + OVERHEAD_BYTES


@dataclass(slots=True)
class Kept:
    """What all who are away cost together, in bytes."""

    total: int = 0


class Backlog(asyncio.Queue[Message]):
    """One client's messages, oldest first, in the place where aMQTT has a plain queue.

    Attributes:
        cost: of all that is in it, in bytes; part of `kept.total`, too.
    """

    def __init__(self, kept: Kept) -> None:
        super().__init__()
        self.cost = 0
        self._kept = kept

    def keep(self, message: Message, *, max_count: int, max_cost: int) -> list[Message]:
        """Add a message; returns those that had to go for it, the oldest first, and itself if it alone is too much."""
        if cost(message) > max_cost or not max_count:
            return [message]
        dropped = []
        while self.qsize() and (self.qsize() >= max_count or self.cost + cost(message) > max_cost):
            dropped.append(self.get_nowait())
        self.put_nowait(message)
        return dropped

    def clear(self) -> None:
        """Nothing waits any more."""
        while self.qsize():
            self.get_nowait()

    def _put(self, item: Message) -> None:
        super()._put(item)
        self._add(cost(item))

    def _get(self) -> Message:
        item: Message = super()._get()
        self._add(-cost(item))
        return item

    def _add(self, difference: int) -> None:
        self.cost += difference
        self._kept.total += difference
