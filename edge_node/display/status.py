"""Chooses the one light that shows the node's state."""

from typing import Literal

from edge_node.display.events import Alarm, Indicator, Light, Told

LIGHTS: dict[str, Light] = {
    "sent": "wake_sent",
    "acked": "app_answered",
    "pushed": "wake_sent",
    "user_not_connected": "nobody_there",
    "expired": "nobody_there",
    "rejected": "nobody_there",
    "unknown": "nobody_there",
}
"""Lights by the outcome of a wake."""

Mode = Literal["active", "standby"]


class StatusDisplay:
    """Call `show` whenever one of its arguments may have changed.

    Attributes:
    muted: the node is muted.
    alarms: conditions that keep the node from receiving sound.
    """

    def __init__(self, events: Told, indicator: Indicator) -> None:
        self.muted = False
        self.alarms: set[Alarm] = set()
        self._events = events
        self._indicator = indicator

    def start(self) -> None:
        """Show the `starting` light."""
        self._indicator.show("starting")

    def mute(self, muted: bool) -> bool:
        """Set muted; returns whether that changed."""
        if muted == self.muted:
            return False
        self.muted = muted
        self._events.emit("muted" if muted else "unmuted")
        return True

    def alarm(self, name: Alarm, raised: bool) -> bool:
        """Set an alarm; returns whether that changed."""
        if raised == (name in self.alarms):
            return False
        self.alarms ^= {name}
        self._events.emit("alarm", name=name, raised=raised)
        return True

    def ignored(self, score: float) -> None:
        """The wake word was recognised without effect: the node is muted, or no user is logged in."""
        self._events.emit("ignored", reason="muted" if self.muted else "standby", score=round(score, 4))

    def show(self, mode: Mode, *, reached: bool) -> None:
        """Show the session, or why a wake would have no effect; `reached`: whether wakes would be sent now."""
        self._indicator.show(self._trouble(mode, reached=reached) or mode)

    def show_fate(self, status: str, mode: Mode, *, reached: bool) -> None:
        """Show the outcome of a wake. A late one neither lights a lamp after a log-out nor hides an alarm."""
        if mode == "active" and self._trouble(mode, reached=reached) is None:
            self._indicator.show(LIGHTS[status])

    def _trouble(self, mode: Mode, *, reached: bool) -> Light | None:
        if "microphone_lost" in self.alarms:
            return "microphone_lost"
        if self.muted:
            return "muted"
        return None if reached or mode == "standby" else "offline"
