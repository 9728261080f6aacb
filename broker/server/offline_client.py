"""Stands in for the connection of a persistent session whose client is offline."""

from broker.server.ending import Ending
from broker.server.journal import Notes


class OfflineClient:
    """Accepts no message, so that the session queues it.

    Attributes:
    ended_at: loop time from which its absence counts.
    credential: with which its user was accepted.
    notes: its entries in a store; None without a store.
    unacked_bytes: the cost of its unacknowledged messages.
    """

    __slots__ = ("credential", "ended", "ended_at", "notes", "unacked_bytes")
    is_open = False

    def __init__(self, ended_at: float, credential: str | None, notes: Notes | None) -> None:
        self.ended = Ending(is_set=True)
        self.ended_at = ended_at
        self.credential = credential
        self.notes = notes
        self.unacked_bytes = 0

    def publish(self, *_: object, **__: object) -> bool:
        """Always false: the client is offline."""
        return False

    def close(self, reason: str) -> None:
        """Does nothing: no connection is open."""

    async def stop(self) -> None:
        """AMQTT calls it at shutdown for remaining clients."""
