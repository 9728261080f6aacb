"""Stands where a connection was: a persistent session whose client is away."""

import asyncio

from broker.journal import Notes


class Absent:
    """Takes no message, so that the session queues it.

    Attributes:
        ended_at: loop time from which its absence counts.
        credential: what let its user in.
        notes: what a store remembers of it; None without a store.
        unacked_bytes: what the messages cost that its client has not acknowledged.
    """

    is_open = False

    def __init__(self, ended_at: float, credential: str | None, notes: Notes | None) -> None:
        self.ended = asyncio.Event()
        self.ended.set()
        self.ended_at = ended_at
        self.credential = credential
        self.notes = notes
        self.unacked_bytes = 0

    def publish(self, *_: object, **__: object) -> bool:
        """Nobody is there."""
        return False

    def close(self, reason: str) -> None:
        """Nothing is open."""

    async def stop(self) -> None:
        """Called by aMQTT for what is left at shutdown."""
