"""News of a shared ledger: what a turn changed that bridges keep in memory, as a row of it. No I/O."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from bridge.storage.records import Change, Departed, PendingLogout, Session, Settled

_KINDS: dict[str, type[Any]] = {
    "session": Session,
    "log-out": PendingLogout,
    "settled": Settled,
    "departed": Departed,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


class UnknownNewsError(ValueError):
    """A later version wrote it: what memory holds cannot follow."""


@dataclass(frozen=True, slots=True)
class News:
    """What one turn changed.

    Attributes:
    number: the turn's; turns are numbered in the order in which they were committed.
    """

    number: int
    changes: Sequence[Change]


class HistoryError(ValueError):
    """The ledger no longer holds what was read from it: it is another one, or it went back."""


class BehindError(ValueError):
    """The ledger has forgotten changes that were not read in time: what memory holds cannot follow."""


class Row(Protocol):
    """A row of news: its turn's number, the run that wrote it, and the changes as `text_of` wrote them."""

    @property
    def number(self) -> int: ...  # noqa: D102 - see above
    @property
    def run(self) -> str: ...  # noqa: D102
    @property
    def changes(self) -> str: ...  # noqa: D102


class NewsCursor:
    """How far one bridge has read the news.

    Args:
    run: its own, whose news it knows.
    turn: the last one that it has in memory.
    kept: how many turns the ledger keeps.
    """

    def __init__(self, run: str, turn: int, kept: int) -> None:
        self._run = run
        self._turn = turn
        self._kept = kept
        self._unheard: set[int] = set()
        """Turns of its own that were committed although it was told that they were not."""
        self._last: tuple[int, str] | None = None
        """The newest row that was read: it must still be there."""

    @property
    def first(self) -> int:
        """The number from which rows are to be read."""
        first = self._turn + 1 if self._last is None else self._last[0]
        return min(first, *self._unheard) if self._unheard else first

    def unheard(self, turn: int) -> None:
        """A turn of this bridge was committed, and it does not have in memory what that changed."""
        self._unheard.add(turn)

    def read(self, rows: Sequence[Row], turn: int) -> list[News]:
        """What others changed up to this turn, of rows that were read together with its number, in their order.

        Raises HistoryError, BehindError, UnknownNewsError.
        """
        if turn < self._turn:
            raise HistoryError("the ledger went back: it is a back-up, or a server that lacks the newest changes")
        if turn - self._turn > self._kept:
            raise BehindError("the ledger has forgotten changes that this bridge has not read: it stood too long")
        last = self._last
        if last is not None and turn - last[0] <= self._kept and last not in {(row.number, row.run) for row in rows}:
            raise HistoryError("the ledger went back: it lacks changes that this bridge has read")
        news = [News(row.number, changes_in(row.changes)) for row in self._new(rows)]
        if rows:
            self._last = (rows[-1].number, rows[-1].run)
        self._turn = turn
        return news

    def _new(self, rows: Sequence[Row]) -> list[Row]:
        """The rows that are to be followed; of this bridge's own turns those that it does not know."""
        new = [
            row for row in rows if (row.number > self._turn and row.run != self._run) or (row.number in self._unheard)
        ]
        self._unheard.clear()
        return new


def is_news(change: Change) -> bool:
    """Whether bridges keep it in memory."""
    return type(change) in _NAMES


def text_of(changes: Iterable[Change]) -> str:
    """These changes as JSON."""
    return json.dumps([[_NAMES[type(change)], asdict(change)] for change in changes])


def changes_in(text: str) -> list[Change]:
    """The changes of `text_of`; raises UnknownNewsError."""
    try:
        return [_KINDS[name](**fields) for name, fields in json.loads(text)]
    except (KeyError, TypeError, ValueError) as error:
        raise UnknownNewsError(str(error)) from error
