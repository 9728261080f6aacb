"""The events of an app."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

EventKind = Literal["connecting", "connected", "message", "voice_command", "unknown", "closed", "retry", "stopped"]


@dataclass(frozen=True, slots=True)
class AppEvent:
    """One event of an app.

    Attributes:
    kind: `voice_command` is one that rings; a duplicate of it, or one that is over, is a `message`. `unknown` is
    ignored by the app.
    at: seconds since 1970, of this machine.
    message: the server's message, as it came.
    detail: one line for people.
    code: the WebSocket close code, or the HTTP status of a refusal; None if there was none.
    delay_s: until the next attempt.
    missed: of a `connected`, the wakes that no app accepted while the user was away.
    """

    kind: EventKind
    at: float
    message: dict[str, Any] | None = None
    detail: str | None = None
    code: int | None = None
    delay_s: float | None = None
    missed: list[dict[str, Any]] | None = None


EventHandler = Callable[[AppEvent], None]
