"""What people see of a node: who is logged in, what came of a wake, or why nothing would come of one; as one light."""

from typing import Literal

from edge_node.events import Alarm, Indicator, Light, Told

LIGHTS: dict[str, Light] = {
    "sent": "wake_sent",
    "acked": "app_answered",
    "pushed": "wake_sent",
    "user_not_connected": "nobody_there",
    "expired": "nobody_there",
    "rejected": "nobody_there",
    "unknown": "nobody_there",
}
"""By the fate of a wake."""

Mode = Literal["active", "standby"]


class Panel:
    """Call `show` whenever one of its arguments may have changed.

    Attributes:
        muted: nothing is listened to.
        alarms: what keeps the node from hearing.
    """

    def __init__(self, events: Told, indicator: Indicator) -> None:
        self.muted = False
        self.alarms: set[Alarm] = set()
        self._events = events
        self._indicator = indicator

    def start(self) -> None:
        """Nothing is known yet."""
        self._indicator.show("starting")

    def mute(self, muted: bool) -> bool:
        """Whether that is new."""
        if muted == self.muted:
            return False
        self.muted = muted
        self._events.emit("muted" if muted else "unmuted")
        return True

    def alarm(self, name: Alarm, raised: bool) -> bool:
        """Whether that is new."""
        if raised == (name in self.alarms):
            return False
        self.alarms ^= {name}
        self._events.emit("alarm", name=name, raised=raised)
        return True

    def ignored(self, score: float) -> None:
        """The wake word was heard and concerns nobody: the node is muted, or nobody is logged in."""
        self._events.emit("ignored", reason="muted" if self.muted else "standby", score=round(score, 4))

    def show(self, mode: Mode, *, reached: bool) -> None:
        """The session; or why nothing would come of the wake word: `reached` is whether wakes would go out now."""
        self._indicator.show(self._trouble(mode, reached=reached) or mode)

    def show_fate(self, status: str, mode: Mode, *, reached: bool) -> None:
        """What came of a wake. A late one lights no lamp that a log-out has put out, and hides no trouble."""
        if mode == "active" and self._trouble(mode, reached=reached) is None:
            self._indicator.show(LIGHTS[status])

    def _trouble(self, mode: Mode, *, reached: bool) -> Light | None:
        if "microphone_lost" in self.alarms:
            return "microphone_lost"
        if self.muted:
            return "muted"
        return None if reached or mode == "standby" else "offline"
