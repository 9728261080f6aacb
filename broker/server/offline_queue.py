"""Queues messages for offline clients, bounded in bytes."""

import asyncio
from dataclasses import dataclass

from broker.server.journal import Message

OVERHEAD_BYTES = 512
"""Python's overhead beside topic and payload of a message, or beside a filter in its tables."""


def cost(message: Message) -> int:
    """The cost of a queued message in bytes; a payload that waits for several clients counts for each."""
    return len(message.topic) + len(message.data) + OVERHEAD_BYTES


@dataclass(slots=True)
class QueuedBytes:
    """The cost of all absent clients' queues together, in bytes."""

    total: int = 0


class OfflineQueue(asyncio.Queue[Message]):
    """One client's messages, oldest first, in place of aMQTT's plain queue.

    Attributes:
    cost: of all messages in it, in bytes; part of `kept.total`, too.
    """

    def __init__(self, kept: QueuedBytes) -> None:
        super().__init__()
        self.cost = 0
        self._kept = kept

    def keep(self, message: Message, *, max_count: int, max_cost: int) -> list[Message]:
        """Add a message; returns those that were dropped for it, oldest first, and itself if it alone is too large."""
        if cost(message) > max_cost or not max_count:
            return [message]
        dropped = []
        while self.qsize() and (self.qsize() >= max_count or self.cost + cost(message) > max_cost):
            dropped.append(self.get_nowait())
        self.put_nowait(message)
        return dropped

    def clear(self) -> None:
        """Remove all messages."""
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
