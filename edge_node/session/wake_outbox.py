"""Repeats wakes until their outcome is received, drops them when stale, and knows which outcome counts. No I/O."""

from dataclasses import dataclass

from contract.messages import Wake

REPEAT_S = 2.0
MAX_WAKES = 32

_WORTH = {"acked": 3, "pushed": 2, "sent": 1}
"""Each of these says more than those after it; every other outcome says that no app has the wake."""


@dataclass(slots=True)
class _Entry:
    wake: Wake
    heard_at: float
    due: float
    published: bool = False


@dataclass(slots=True)
class _Answered:
    heard_at: float
    until: float
    worth: int


@dataclass(frozen=True, slots=True)
class Due:
    """A wake to publish now, with its present age; `again`: it was published before."""

    wake: Wake
    again: bool


class WakeOutbox:
    """At most 32 wakes without an outcome, the oldest is dropped for a newer one; and as many with one."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._answered: dict[str, _Answered] = {}
        self.dropped = 0

    def __len__(self) -> int:
        """How many have no outcome."""
        return len(self._entries)

    def add(self, wake: Wake, heard_at: float) -> None:
        """Add a recognised wake; it is due at once."""
        if len(self._entries) >= MAX_WAKES:
            del self._entries[next(iter(self._entries))]
            self.dropped += 1
        self._entries[wake.id] = _Entry(wake, heard_at, heard_at)

    def heard_at(self, wake_id: str) -> float | None:
        """When the word was heard; None if the wake is not (or no longer) here."""
        known = self._entries.get(wake_id) or self._answered.get(wake_id)
        return None if known is None else known.heard_at

    def settled(self, wake_id: str, status: str) -> bool:
        """An outcome was received; whether it is the first of its wake, or better than those before.

        Several bridges may answer: one without the user's socket before the one with it. Of a wake that is not (or no
        longer) here only `acked` and `pushed` count.
        """
        worth = _WORTH.get(status, 0)
        entry = self._entries.pop(wake_id, None)
        if entry is not None:
            if len(self._answered) >= MAX_WAKES:
                del self._answered[next(iter(self._answered))]
            until = entry.heard_at + entry.wake.ttl_ms / 1000
            self._answered[wake_id] = _Answered(entry.heard_at, until, worth)
            return True
        answered = self._answered.get(wake_id)
        if answered is None:
            return worth > _WORTH["sent"]
        better = worth > answered.worth
        answered.worth = max(worth, answered.worth)
        return better

    def clear(self) -> None:
        """No user is logged in: drop all wakes."""
        self.dropped += len(self._entries)
        self._entries.clear()
        self._answered.clear()

    def due(self, now: float) -> list[Due]:
        """Wakes to publish now, with their present age; call `sent` for each that was sent."""
        stale = [wake_id for wake_id, entry in self._entries.items() if _age_ms(entry, now) >= entry.wake.ttl_ms]
        for wake_id in stale:
            del self._entries[wake_id]
        self.dropped += len(stale)
        for wake_id in [wake_id for wake_id, answered in self._answered.items() if answered.until <= now]:
            del self._answered[wake_id]
        return [
            Due(entry.wake.model_copy(update={"age_ms": _age_ms(entry, now)}), entry.published)
            for entry in self._entries.values()
            if entry.due <= now
        ]

    def sent(self, wake_id: str, now: float) -> None:
        """It was sent; again in two seconds unless its outcome comes."""
        if wake_id in self._entries:
            self._entries[wake_id].due = now + REPEAT_S
            self._entries[wake_id].published = True


def _age_ms(entry: _Entry, now: float) -> int:
    return max(0, round((now - entry.heard_at) * 1000))
