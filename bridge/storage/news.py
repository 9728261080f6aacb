"""News of a shared ledger: what a turn changed that bridges keep in memory, as a row of it. No I/O."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

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
