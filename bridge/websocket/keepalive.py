"""Who says nothing for long is asked for a sign of life, and cut off when none comes. Decides, sends nothing itself.

One wheel for all connections: at each step one of its slots is looked at, so that ten thousand pings never go out
together, and no connection needs a timer of its own.
"""

from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar


class Quiet(Protocol):
    """What can be silent.

    Attributes:
        silence: how many looks ago something came; whatever comes sets it to 0, and the wheel alone counts it up.
        slot: where in the wheel it is; the wheel's own.
    """

    silence: int
    slot: int

    def ping(self) -> None:
        """Ask for a sign of life."""
        ...

    def give_up(self) -> None:
        """None came."""
        ...


Connection = TypeVar("Connection", bound=Quiet)
ASKED_AFTER, GIVEN_UP_AFTER = 1, 2


class Wheel(Generic[Connection]):
    """Looks at each connection once per turn: silent for one turn, it is pinged; for two, it is given up."""

    def __init__(self, slots: int) -> None:
        self._slots: list[set[Connection]] = [set() for _ in range(slots)]
        self._at = 0

    def __len__(self) -> int:
        return sum(map(len, self._slots))

    def __iter__(self) -> Iterator[Connection]:
        for slot in self._slots:
            yield from slot

    def add(self, connection: Connection) -> None:
        """Look at it from now on; first in a whole turn."""
        connection.slot = self._at
        self._slots[self._at].add(connection)

    def remove(self, connection: Connection) -> None:
        """Look at it no more."""
        self._slots[connection.slot].discard(connection)

    def step(self) -> None:
        """Look at the next slot."""
        self._at = (self._at + 1) % len(self._slots)
        for connection in tuple(self._slots[self._at]):
            silence = connection.silence
            connection.silence = silence + 1
            if silence == ASKED_AFTER:
                connection.ping()
            elif silence == GIVEN_UP_AFTER:
                connection.give_up()
