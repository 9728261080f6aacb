"""Queues messages for offline clients, bounded in bytes."""

from collections import deque
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


class OfflineQueue:
    """One client's messages, oldest first.

    Attributes:
    cost: of all messages in it, in bytes; part of `kept.total`, too.
    """

    __slots__ = ("_kept", "_messages", "cost")

    def __init__(self, kept: QueuedBytes) -> None:
        self.cost = 0
        self._kept = kept
        self._messages: deque[Message] | None = None  # most clients are never absent, and an empty one takes 600 bytes

    def __len__(self) -> int:
        return len(self._messages or ())

    def put(self, message: Message) -> None:
        """Add a message, whatever the limits."""
        if self._messages is None:
            self._messages = deque()
        self._messages.append(message)
        self._add(cost(message))

    def take(self) -> Message:
        """Remove the oldest message and return it; raises IndexError if there is none."""
        if not self._messages:
            raise IndexError("the queue is empty")
        message = self._messages.popleft()
        self._add(-cost(message))
        return message

    def keep(self, message: Message, *, max_count: int, max_cost: int) -> list[Message]:
        """Add a message; returns those that were dropped for it, oldest first, and itself if it alone is too large."""
        if cost(message) > max_cost or not max_count:
            return [message]
        dropped = []
        while len(self) and (len(self) >= max_count or self.cost + cost(message) > max_cost):
            dropped.append(self.take())
        self.put(message)
        return dropped

    def clear(self) -> None:
        """Remove all messages."""
        while len(self):
            self.take()

    def _add(self, difference: int) -> None:
        self.cost += difference
        self._kept.total += difference
