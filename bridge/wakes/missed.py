"""The wakes that each user missed, until the user connects: they stand in the ledger. Decides, stores nothing."""

from collections import deque
from collections.abc import Iterable, Sequence

from bridge.storage.records import Change, Missed, MissedTold

MISSED_PER_USER = 20
MAX_UNSAVED = 10_000


class MissedWakes:
    """What the ledger does not have yet: wakes that were just missed, and those that their user was just told of.

    `take_unsaved` returns the changes to store; `put_back` takes back what was not stored, and must follow.
    """

    def __init__(self) -> None:
        self._unsaved: deque[Change] = deque(maxlen=MAX_UNSAVED)
        self._in_hand: list[Change] = []
        """Being stored; perhaps in the ledger already."""

    def add(self, missed: Missed) -> None:
        """Add one; the oldest of too many are dropped."""
        self._unsaved.append(missed)

    def take(self, uid: str, stored: Sequence[Missed]) -> list[Missed]:
        """The wakes that the user missed since the last call, newest last.

        `stored` is what the ledger has of them, oldest first, read after the last `take_unsaved` or before it.
        """
        if not (stored or self._unsaved or self._in_hand):
            return []
        unsaved = [*self._in_hand, *self._unsaved]
        told = {change.id for change in unsaved if isinstance(change, MissedTold)}
        added = [change for change in unsaved if isinstance(change, Missed) and change.uid == uid]
        missed = [one for one in {one.id: one for one in (*stored, *added)}.values() if one.id not in told]
        self._unsaved.extend(MissedTold(one.id) for one in missed)
        return missed[-MISSED_PER_USER:]

    def forget(self, uid: str) -> None:
        """Drop what is not stored of a user."""
        kept = [one for one in self._unsaved if not (isinstance(one, Missed) and one.uid == uid)]
        self._unsaved.clear()
        self._unsaved.extend(kept)

    def take_unsaved(self) -> list[Change]:
        """The changes since the last call, oldest first."""
        self._in_hand = list(self._unsaved)
        self._unsaved.clear()
        return list(self._in_hand)

    def put_back(self, taken: Iterable[Change]) -> None:
        """These were not stored; they are older than newer changes. The oldest of too many are dropped."""
        self._in_hand = []
        meanwhile = list(self._unsaved)
        self._unsaved.clear()
        self._unsaved.extend([*taken, *meanwhile])
