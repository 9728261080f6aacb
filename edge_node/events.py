"""What happens on the node, one line per event on standard output; and the light that people see."""

import json
import time
from datetime import datetime
from typing import Any, Literal, Protocol, TextIO

from contract.telemetry import Unbreakable

Light = Literal[
    "starting",
    "standby",
    "active",
    "wake_sent",
    "app_answered",
    "nobody_there",
    "muted",
    "microphone_lost",
    "offline",
]

Alarm = Literal["microphone_lost", "digital_silence"]
"""Why a node that runs may hear nothing."""


class Told(Protocol):
    """Whoever is told what happens on a node."""

    def emit(self, event: str, **fields: Any) -> None:
        """Something happened; must return at once."""
        ...


class Events:
    """Prints events: for people, or as JSON for programs.

    JSON lines hold `event`, `at` (Unix seconds) and the event's fields.
    """

    def __init__(self, out: TextIO, *, as_json: bool) -> None:
        self._out = Unbreakable(out)
        self._as_json = as_json

    def emit(self, event: str, **fields: Any) -> None:
        """One line, at once."""
        at = time.time()
        if self._as_json:
            line = json.dumps({"event": event, "at": at, **fields}, ensure_ascii=False)
        else:
            clock = datetime.fromtimestamp(at).astimezone().strftime("%H:%M:%S.%f")[:-3]
            told = " ".join(f"{key}={value}" for key, value in fields.items() if value is not None)
            line = f"{clock}  {event:<12} {told}".rstrip()
        self._out.write(line + "\n")
        self._out.flush()


class Indicator(Protocol):
    """A lamp, a display or a sound."""

    def show(self, light: Light) -> None:
        """Show this from now on; must return at once."""
        ...


class ConsoleIndicator:
    """A lamp on paper; says each change once."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._shown: Light | None = None

    def show(self, light: Light) -> None:
        """Print it, if it is another than before."""
        if light != self._shown:
            self._shown = light
            self._events.emit("led", state=light)
