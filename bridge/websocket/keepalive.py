"""Pings silent sockets, and gives up those that do not answer. Decides, sends nothing itself.

One timing wheel for all connections: each step looks at one of its slots, so ten thousand pings are spread over time,
and no connection needs its own timer.
"""

from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar


class Pingable(Protocol):
    """A connection that can be silent.

    Attributes:
    silence: how many turns ago something came; received bytes set it to 0, and only the wheel increments it.
    slot: its place in the wheel; only the wheel uses it.
    """

    silence: int
    slot: int

    def ping(self) -> None:
        """Send a ping."""
        ...

    def give_up(self) -> None:
        """The ping was not answered."""
        ...


Connection = TypeVar("Connection", bound=Pingable)
ASKED_AFTER, GIVEN_UP_AFTER = 1, 2


class Wheel(Generic[Connection]):
    """Looks at each connection once per turn: after one silent turn it is pinged; after two it is given up."""

    def __init__(self, slots: int) -> None:
        self._slots: list[set[Connection]] = [set() for _ in range(slots)]
        self._at = 0

    def __len__(self) -> int:
        return sum(map(len, self._slots))

    def __iter__(self) -> Iterator[Connection]:
        for slot in self._slots:
            yield from slot

    def add(self, connection: Connection) -> None:
        """Watch the connection from now on; the first look is after a whole turn."""
        connection.slot = self._at
        self._slots[self._at].add(connection)

    def remove(self, connection: Connection) -> None:
        """Stop watching the connection."""
        self._slots[connection.slot].discard(connection)

    def step(self) -> None:
        """Look at the connections of the next slot."""
        self._at = (self._at + 1) % len(self._slots)
        for connection in tuple(self._slots[self._at]):
            silence = connection.silence
            connection.silence = silence + 1
            if silence == ASKED_AFTER:
                connection.ping()
            elif silence == GIVEN_UP_AFTER:
                connection.give_up()
