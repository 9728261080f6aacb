"""Which devices are online, by their status and last will. Decides, sends nothing."""

from dataclasses import dataclass

OFFLINE_GRACE_S = 10.0


@dataclass(slots=True)
class _Seen:
    boot: int
    gone_at: float | None = None


class Presence:
    """A last will counts only if it is of the newest boot, and only after a grace period: brokers send them late."""

    def __init__(self, offline_grace_s: float = OFFLINE_GRACE_S) -> None:
        self._grace_s = offline_grace_s
        self._seen: dict[str, _Seen] = {}

    def seen(self, device_id: str, boot: int) -> None:
        """The device sent a message itself; a lower boot than before is a new installation."""
        self._seen[device_id] = _Seen(boot)

    def gone(self, device_id: str, boot: int, now: float) -> None:
        """Its last will came."""
        seen = self._seen.get(device_id)
        if seen is not None and seen.boot == boot and seen.gone_at is None:
            seen.gone_at = now

    def online(self, device_id: str, now: float) -> bool:
        """Whether it was seen, and is not gone for longer than the grace period."""
        seen = self._seen.get(device_id)
        return seen is not None and (seen.gone_at is None or now < seen.gone_at + self._grace_s)
