"""What the stories' file holds: stories of wakes, events, and the last known state of each device. No I/O."""

from typing import Any, Literal

from msgspec import Struct

Step = tuple[Any, ...]
"""(monotonic seconds, what happened, details): see `STEPS`."""

STEPS = {
    "queued": "a socket accepted it: label, mode",
    "not_queued": "a socket did not: label, mode, close code of the socket",
    "again": "it was sent again: label, mode",
    "copy": "the device sent it again",
    "refused": "it was not to ring: stale, no_user or other_user; then the user who is logged in there",
    "foreign_id": "another device used its id: the device",
    "untold": "its device could not be told the outcome: no broker was reached",
    "acked": "an app confirmed it: label, how it rang",
    "acked_late": "an app confirmed it after its end: label, how it rang",
    "closed": "a socket of the user was closed before a confirmation: label, close code",
    "push": "a push ended: service, result",
    "no_push": "no push was sent: no_phone, logged_out or no_room",
}
"""By the second field of a step: what it means, and the details behind it."""


def forgotten(step: Step, uid: str, name: str) -> Step:
    """The step with `name` in the place of a user who is logged in on the device of another's wake."""
    if step[1] != "refused":
        return step
    return (*step[:2], *(name if told == uid else told for told in step[2:]))


EventKind = Literal["status", "near", "flooded", "broker", "ledger", "app_joined", "app_left", "lost"]
"""`about` of an event is a device (status, near, flooded), a user (app_...) or a bridge (the others)."""


class Story(Struct, array_like=True):
    """One wake, as one bridge saw it. A later one of the same wake and bridge replaces an earlier one.

    Attributes:
        received_on: the date of `received_at`, by the bridge's wall clock.
        received_at: monotonic seconds, as those in the steps.
        age_ms: how old it was then, as its device says.
        state: as in `bridge.wakes.delivery`.
    """

    id: str
    uid: str
    device_id: str
    received_on: str
    received_at: float
    age_ms: int
    ttl_ms: int
    score: float | None
    model: str | None
    state: str
    status: str
    latency_ms: float
    steps: tuple[Step, ...]
    bridge: str = ""

    def ms(self, step: Step) -> float:
        """Milliseconds from the receipt to this step."""
        at: float = step[0]
        return round((at - self.received_at) * 1000, 1)


StoryFields = tuple[Any, ...]
"""The fields of a Story in their order, but for `bridge`: all that a bridge needs to write one."""


class Event(Struct):
    """What happened to a device, a user's app or the bridge; `at` is Unix time."""

    at: float
    kind: EventKind
    about: str
    told: dict[str, Any]


class DeviceState(Struct):
    """What is known of a device.

    Attributes:
        since: Unix time of the last change of state, session, mute or alarms.
        noticed: the bridge was away when it changed: it changed at `since` at the latest.
        seen: Unix time of the last message that it sent itself; a retained message and a last will do not count.
        near: near-misses that it counted since its start.
        best: the best score among the last of them; `threshold` is what would have been needed.
    """

    device_id: str
    state: str = ""
    since: float = 0.0
    noticed: bool = False
    seen: float | None = None
    session: str = ""
    muted: bool = False
    alarms: tuple[str, ...] = ()
    version: str = ""
    model: str = ""
    near: int = 0
    best: float | None = None
    threshold: float | None = None


class Run(Struct):
    """One run of a bridge; times are Unix time.

    Attributes:
        written: everything before it is in the file.
        ended: None while it runs, and for ever if it was killed.
    """

    bridge: str
    began: float
    written: float
    ended: float | None
    version: str
    pushes: bool
