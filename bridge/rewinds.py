"""Which devices run with an older copy of their state: a restored card, a snapshot, a root that forgets. No I/O."""

from collections import OrderedDict
from dataclasses import dataclass

SURE_AFTER_S = 1.0
"""A message that was late comes once, or with others in one burst; a device that was not believed goes on talking."""

MAX_DEVICES = 10_000


@dataclass(slots=True)
class _Told:
    boot: int
    since: float
    sure: bool = False


class Rewinds:
    """Remembers who was told that its reports are older than what is known, until a report is believed again."""

    def __init__(self) -> None:
        self._told: OrderedDict[str, _Told] = OrderedDict()

    def older(self, device_id: str, known_boot: int, now: float) -> bool:
        """Its report was older, and it is told so; True the first time that this can be no message that was late."""
        told = self._told.get(device_id)
        if told is None:
            self._told[device_id] = _Told(known_boot, now)
            if len(self._told) > MAX_DEVICES:
                self._told.popitem(last=False)
            return False
        became_sure = not told.sure and now - told.since >= SURE_AFTER_S
        told.sure |= became_sure
        return became_sure

    def believed(self, device_id: str, boot: int) -> bool:
        """Its report was not older; True if it has gone beyond what it was told, and `older` was not sure before."""
        told = self._told.pop(device_id, None)
        return told is not None and boot > told.boot and not told.sure

    def stuck(self, device_id: str) -> bool:
        """Surely behind, and it does not go beyond: a version of the edge that does not understand it."""
        told = self._told.get(device_id)
        return told is not None and told.sure
