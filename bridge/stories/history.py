"""What is known of each device, and which of it is news. No I/O; times are Unix time."""

import heapq
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, get_args

from msgspec.structs import replace

from bridge.stories.records import DeviceState, Event
from contract.messages import DeviceStatus

MOST_DEVICES = 100_000
_PLAIN = re.compile(r"(?!other$)[0-9A-Za-z][0-9A-Za-z.+_-]{0,39}")
SEEN_EVERY_S = 30.0
"""How exact the time is at which a device was last seen; each earlier one would be written for nothing."""


DeviceStateName = Literal["online", "offline", "active", "deaf", "muted"]
DEVICE_STATES: tuple[DeviceStateName, ...] = get_args(DeviceStateName)
_IS: Mapping[DeviceStateName, Callable[[DeviceState], bool]] = {
    "online": lambda known: known.state == "online",
    "offline": lambda known: known.state == "offline",
    "active": lambda known: known.state == "online" and known.session == "active",
    "deaf": lambda known: known.state == "online" and bool(known.alarms),
    "muted": lambda known: known.state == "online" and known.muted,
}


class DeviceHistory:
    """Follows the status messages and reports of all devices; `take` returns what is to be written."""

    def __init__(self) -> None:
        self._known: dict[str, DeviceState] = {}
        self._events: list[Event] = []
        self._changed: dict[str, DeviceState] = {}

    def load(self, states: Iterable[DeviceState]) -> None:
        """What an earlier run of the bridge knew."""
        self._known = {state.device_id: state for state in states}

    def status(self, device_id: str, status: DeviceStatus, at: float, *, retained: bool) -> None:
        """A status or a last will came. A retained one shows a state, and not that the device was there just now."""
        known = self._of(device_id)
        now = (status.state, status.session, status.muted, status.alarms)
        if now != (known.state, known.session, known.muted, known.alarms):
            known.state, known.session, known.muted, known.alarms = now
            known.since, known.noticed = at, retained
            self._tell(Event(at, "status", device_id, told_of(known)))
        self._count_near(known, status, at)
        if status.version and status.version != known.version:
            known.version = status.version
            self._changed[device_id] = known
        if status.state == "online" and not retained:
            self.seen(device_id, at)

    def report(self, device_id: str, version: str, model: str, at: float) -> None:
        """A hello came: with the version of its software and the name of its model, empty if it does not say."""
        known = self._of(device_id)
        if (version or known.version, model or known.model) != (known.version, known.model):
            known.version, known.model = version or known.version, model or known.model
            self._changed[device_id] = known
        self.seen(device_id, at)

    def seen(self, device_id: str, at: float) -> None:
        """The device sent a message itself."""
        known = self._of(device_id)
        if known.seen is None or at - known.seen >= SEEN_EVERY_S:
            known.seen = at
            self._changed[device_id] = known

    def count(self, state: DeviceStateName) -> int:
        """How many devices are in this state; a deaf one has an alarm."""
        return sum(_IS[state](known) for known in self._known.values())

    def state_of(self, device_id: str) -> DeviceState | None:
        """A copy of what is known of a device; None if nothing is."""
        known = self._known.get(device_id)
        return None if known is None else replace(known)

    def devices_in(self, state: DeviceStateName) -> list[str]:
        """The names of the devices in this state, in no order."""
        matches = _IS[state]
        return [device_id for device_id, known in self._known.items() if matches(known)]

    def longest_in(self, state: DeviceStateName, most: int) -> list[DeviceState]:
        """Copies of what is known of the devices that are in this state for the longest time, the longest first."""
        matches = _IS[state]
        found = heapq.nsmallest(
            most, filter(matches, self._known.values()), key=lambda known: (known.since, known.device_id)
        )
        return [replace(known) for known in found]

    def versions(self) -> dict[str, int]:
        """How many devices have each version of the software; "" for those that do not say."""
        return dict(Counter(known.version for known in self._known.values()))

    def models(self) -> dict[str, int]:
        """How many devices have each wake-word model; "" for those that do not say."""
        return dict(Counter(known.model for known in self._known.values()))

    def take(self) -> tuple[list[Event], list[DeviceState]]:
        """The news since the last call."""
        events, states = self._events, [replace(state) for state in self._changed.values()]
        self._events = []
        self._changed.clear()
        return events, states

    def _of(self, device_id: str) -> DeviceState:
        known = self._known.get(device_id)
        if known is None:
            known = DeviceState(device_id)
            if len(self._known) < MOST_DEVICES:  # an open broker lets its clients make up names
                self._known[device_id] = known
        return known

    def _count_near(self, known: DeviceState, status: DeviceStatus, at: float) -> None:
        if status.near in {None, known.near}:
            return
        # A lower count is that of a new start.
        more = status.near - known.near if status.near > known.near else status.near
        known.near, known.best, known.threshold = status.near, status.best, status.threshold
        self._changed[known.device_id] = known
        if more:
            told = {"more": more, "best": status.best, "threshold": status.threshold}
            self._events.append(Event(at, "near", known.device_id, told))

    def _tell(self, event: Event) -> None:
        self._events.append(event)
        self._changed[event.about] = self._of(event.about)


def most_common(counts: Mapping[str, int], most: int) -> dict[str, int]:
    """The most frequent ones that are plain names, and the sum of all others as `other`: devices may say anything."""
    plain = sorted((name for name in counts if _PLAIN.fullmatch(name)), key=lambda name: (-counts[name], name))[:most]
    shown = {name: counts[name] for name in plain}
    return {**shown, "other": sum(counts.values()) - sum(shown.values())}


def told_of(state: DeviceState) -> dict[str, object]:
    """A device's state in an event."""
    return {
        "state": state.state,
        "session": state.session,
        "muted": state.muted,
        "alarms": list(state.alarms),
        "noticed": state.noticed,
    }
