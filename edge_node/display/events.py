"""Prints events of the node, one per line, and defines the light that people see."""

import json
import time
from datetime import datetime
from typing import Any, Literal, Protocol, TextIO

from infra.telemetry import Unbreakable

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
"""Why a running node may receive no sound."""


class Told(Protocol):
    """Receives the events of a node."""

    def emit(self, event: str, **fields: Any) -> None:
        """Report an event; must return at once."""
        ...


class Events:
    """Prints events: for people, or as JSON for programs.

    JSON lines have `event`, `at` (Unix seconds) and the event's fields.
    """

    def __init__(self, out: TextIO, *, as_json: bool) -> None:
        self._out = Unbreakable(out)
        self._as_json = as_json

    def emit(self, event: str, **fields: Any) -> None:
        """Print one line, at once."""
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
        """Show this light from now on; must return at once."""
        ...


class ConsoleIndicator:
    """Prints each change of the light once."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._shown: Light | None = None

    def show(self, light: Light) -> None:
        """Print the light, if it has changed."""
        if light != self._shown:
            self._shown = light
            self._events.emit("led", state=light)
