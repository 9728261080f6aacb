"""Between a connection and the broker."""

from typing import Any, Protocol

from amqtt.session import Session


class Router(Protocol):
    """What a connection asks of the broker; nothing here waits."""

    def changes(self) -> int:
        """How many changes there were that a store must remember."""
        ...

    def call_when_saved(self, connection: Any) -> None:
        """Call its `saved` each time that changes were saved, until it says that it waits for none."""
        ...

    def client_publishes(self, session: Session, packet: Any) -> None:
        """Hand a PUBLISH on."""
        ...

    def client_subscribes(self, session: Session, filters: list[tuple[str, int]]) -> list[int]:
        """Subscribe, and return the codes of SUBACK."""
        ...

    def replay_retained(self, session: Session, granted: list[tuple[str, int]]) -> int:
        """Send what is retained under filters that were granted just now; returns how many messages' work it was."""
        ...

    def client_unsubscribes(self, session: Session, filters: list[str]) -> None:
        """Forget filters."""
        ...
