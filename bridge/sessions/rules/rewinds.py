"""Recognises devices that run with an older copy of their state, such as a restored card. No I/O."""

from dataclasses import dataclass

SURE_AFTER_S = 1.0
"""A late message comes once, or with others in one burst; a device whose reports are ignored keeps reporting."""

MAX_DEVICES = 10_000


@dataclass(slots=True)
class _Told:
    boot: int
    since: float
    sure: bool = False


class Rewinds:
    """The devices that were told that their reports are too old, until a report is current again."""

    def __init__(self) -> None:
        self._told: dict[str, _Told] = {}

    def older(self, device_id: str, known_boot: int, now: float) -> bool:
        """Its report was too old, and it gets an answer that says so.

        True the first time that this cannot be a late message.
        """
        told = self._told.get(device_id)
        if told is None:
            self._told[device_id] = _Told(known_boot, now)
            if len(self._told) > MAX_DEVICES:
                del self._told[next(iter(self._told))]
            return False
        became_sure = not told.sure and now - told.since >= SURE_AFTER_S
        told.sure |= became_sure
        return became_sure

    def believed(self, device_id: str, boot: int) -> bool:
        """Its report was current; True if it has gone beyond the answer, and `older` was not sure before."""
        told = self._told.pop(device_id, None)
        return told is not None and boot > told.boot and not told.sure

    def stuck(self, device_id: str) -> bool:
        """Surely behind, and not going beyond: a version of the edge that does not understand the answer."""
        told = self._told.get(device_id)
        return told is not None and told.sure
