"""Wakes on their way: repeated until their fate is heard, dropped when stale, never sent late. No I/O."""

from dataclasses import dataclass

from contract.messages import Wake

REPEAT_S = 2.0
MAX_WAKES = 32


@dataclass(slots=True)
class _Entry:
    wake: Wake
    heard_at: float
    due: float


class WakeOutbox:
    """At most 32 wakes; the oldest is dropped for a newer one."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, wake: Wake, heard_at: float) -> None:
        """A wake was heard; it is due at once."""
        if len(self._entries) >= MAX_WAKES:
            del self._entries[next(iter(self._entries))]
            self.dropped += 1
        self._entries[wake.id] = _Entry(wake, heard_at, heard_at)

    def settled(self, wake_id: str) -> float | None:
        """Its fate is known: when it was heard, or None for one that is not (or no longer) here."""
        entry = self._entries.pop(wake_id, None)
        return None if entry is None else entry.heard_at

    def clear(self) -> None:
        """Nobody is logged in any more: these wakes concern nobody."""
        self.dropped += len(self._entries)
        self._entries.clear()

    def due(self, now: float) -> list[Wake]:
        """Wakes to publish now, their age renewed; call `sent` for each that went out."""
        stale = [wake_id for wake_id, entry in self._entries.items() if _age_ms(entry, now) >= entry.wake.ttl_ms]
        for wake_id in stale:
            del self._entries[wake_id]
        self.dropped += len(stale)
        return [
            entry.wake.model_copy(update={"age_ms": _age_ms(entry, now)})
            for entry in self._entries.values()
            if entry.due <= now
        ]

    def sent(self, wake_id: str, now: float) -> None:
        """It went out; again in two seconds unless its fate comes."""
        if wake_id in self._entries:
            self._entries[wake_id].due = now + REPEAT_S


def _age_ms(entry: _Entry, now: float) -> int:
    return max(0, round((now - entry.heard_at) * 1000))
