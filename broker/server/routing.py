"""The interface between a connection and the router."""

from typing import Any, Protocol

from broker.server.codec import Publish
from broker.server.session import Session


class Routing(Protocol):
    """What a connection calls on the broker; nothing here waits."""

    def changes(self) -> int:
        """The number of changes that a store must write."""
        ...

    def call_when_saved(self, connection: Any) -> None:
        """Call its `saved` each time that changes were saved, until it returns that it waits for none."""
        ...

    def client_publishes(self, session: Session, packet: Publish) -> None:
        """Route a PUBLISH."""
        ...

    def client_subscribes(self, session: Session, filters: list[tuple[str, int]]) -> list[int]:
        """Subscribe, and return the codes of SUBACK."""
        ...

    def replay_retained(self, session: Session, granted: list[tuple[str, int]]) -> int:
        """Send the retained messages under newly granted filters; returns the work done, in messages."""
        ...

    def client_unsubscribes(self, session: Session, filters: list[str]) -> None:
        """Remove filters."""
        ...
