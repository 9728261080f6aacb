"""The sockets of each user, in the order in which they connected. Decides, sends nothing."""

from collections.abc import Iterator
from typing import Generic, Literal, TypeVar

Connection = TypeVar("Connection")

Eviction = Literal["replaced", "too_many"]


class Hub(Generic[Connection]):
    """The sockets of all users.

    Sockets are compared by identity, so a late end of an old one never removes a newer one.
    """

    def __init__(self, max_per_user: int) -> None:
        self._max_per_user = max_per_user
        self._users: dict[str, dict[Connection, str | None]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Connection]:
        for connections in self._users.values():
            yield from connections

    def join(self, uid: str, connection: Connection, client: str | None = None) -> list[tuple[Connection, Eviction]]:
        """Add a socket; returns those that must close: an older one of the same client, the oldest beyond the limit."""
        connections = self._users.setdefault(uid, {})
        evicted: list[tuple[Connection, Eviction]] = []
        if client is not None:
            evicted += [(other, "replaced") for other, name in connections.items() if name == client]
        for other, _ in evicted:
            self.leave(uid, other)
        connections = self._users.setdefault(uid, connections)
        connections[connection] = client
        self._count += 1
        while len(connections) > self._max_per_user:
            oldest = next(iter(connections))
            self.leave(uid, oldest)
            evicted.append((oldest, "too_many"))
        return evicted

    def leave(self, uid: str, connection: Connection) -> bool:
        """Remove exactly this socket; False if it is not (or no longer) here."""
        connections = self._users.get(uid)
        if connections is None or connection not in connections:
            return False
        del connections[connection]
        self._count -= 1
        if not connections:
            del self._users[uid]
        return True

    def has(self, uid: str) -> bool:
        """Whether the user has a socket."""
        return uid in self._users

    def of(self, uid: str) -> tuple[Connection, ...]:
        """The user's sockets, oldest first."""
        return tuple(self._users.get(uid, ()))

    def named(self, uid: str) -> tuple[tuple[Connection, str | None], ...]:
        """The same, each with its client name."""
        return tuple(self._users.get(uid, {}).items())
