"""What an app sends and receives on one connection; decides without I/O."""

import json
import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app_sim.ages import Ages, clock_of
from app_sim.events import EventKind

DEFAULT_INTERVAL_S = 30.0
MISSING_INTERVALS = 3
MIN_SILENCE_S = 2.0
"""A server may need a second to ack (it commits first), so very short intervals must not count as a dead server."""

_INTERVAL_LIMITS_S = (0.1, 3600.0)
_REMEMBERED_IDS = 1024


@dataclass(frozen=True, slots=True)
class Heard:
    """A frame from the server, and the frame to answer it with, if any.

    Attributes:
    missed: of a `connected`, the missed wakes for which this app has not rung.
    """

    kind: EventKind
    message: dict[str, Any] | None = None
    detail: str | None = None
    answer: str | None = None
    missed: list[dict[str, Any]] | None = None


class SeenIds:
    """The newest received ids, so that each rings once; outlives a connection."""

    def __init__(self) -> None:
        self._ids: OrderedDict[str, None] = OrderedDict()

    def add(self, new_id: str) -> bool:
        """Remember an id; True if it is new."""
        known = new_id in self._ids
        self._ids[new_id] = None
        self._ids.move_to_end(new_id)
        if len(self._ids) > _REMEMBERED_IDS:
            self._ids.popitem(last=False)
        return not known

    def __contains__(self, known_id: object) -> bool:
        return known_id in self._ids


class Dialogue:
    """One connection, with `sarvis.v2` or exactly as the first guide documents it.

    Args:
    asked_at: when the attempt to connect began, in the monotonic seconds of `now` below.
    """

    def __init__(self, *, v2: bool, seen: SeenIds, interval_s: float | None = None, asked_at: float = 0.0) -> None:
        self.v2 = v2
        self.established = False
        self.interval_s = interval_s or DEFAULT_INTERVAL_S
        self._follow_server = v2 and interval_s is None
        self._seen = seen
        self._asked_at = asked_at
        self._ages = Ages()
        self._unanswered = 0
        self._waiting_since = 0.0

    def hear(self, frame: str | bytes, now: float) -> Heard:
        """Process a frame from the server; never raises."""
        message = _decode(frame)
        if message is None:
            return Heard("unknown", detail="a frame that is no JSON object")
        match message.get("type"):
            case "connection_established" if not self.established:
                self.established = True
                self._take_interval(message)
                self._ages.answered(clock_of(self._asked_at), message)
                return Heard("connected", message, missed=self._missed(message))
            case "heartbeat_ack":
                self._unanswered = 0
                self._ages.answered(message.get("seq"), message)
                return Heard("message", message)
            case "voice_command" if isinstance(message.get("command"), str):
                return self._ring(message, now)
            case (
                "connection_established"
                | "login_ack"
                | "logout_ack"
                | "session_began"
                | "session_ended"
                | "wake_seen"
                | "error"
            ):
                return Heard("message", message)
        return Heard("unknown", message, "a message that this app does not know")

    def heartbeat(self, now: float) -> str | None:
        """The next heartbeat; None if the server has left too many unanswered: it counts as dead.

        Args:
        now: monotonic seconds.
        """
        patience_s = max(MISSING_INTERVALS * self.interval_s, MIN_SILENCE_S)
        if self._unanswered >= MISSING_INTERVALS and now - self._waiting_since >= patience_s:
            return None
        if self._unanswered == 0:
            self._waiting_since = now
        self._unanswered += 1
        return encode({"type": "heartbeat", "seq": clock_of(now)} if self.v2 else {"type": "heartbeat"})

    def _ring(self, message: dict[str, Any], now: float) -> Heard:
        command_id = message.get("id")
        if not self.v2 or not isinstance(command_id, str):
            return Heard("voice_command", message)
        if self._ages.is_over(message, now):
            return Heard("message", message, "over")
        answer = encode({"type": "ack", "id": command_id})
        if self._seen.add(command_id):
            return Heard("voice_command", message, answer=answer)
        return Heard("message", message, "duplicate", answer)

    def _missed(self, message: dict[str, Any]) -> list[dict[str, Any]] | None:
        """A confirmation that came too late leaves among the missed a wake for which this app rang."""
        missed = message.get("missed")
        if not self.v2 or not isinstance(missed, list):
            return None
        return [wake for wake in missed if isinstance(wake, dict) and wake.get("id") not in self._seen]

    def _take_interval(self, message: dict[str, Any]) -> None:
        wanted = message.get("heartbeat_interval_s")
        if self._follow_server and isinstance(wanted, int | float) and not isinstance(wanted, bool) and wanted > 0:
            shortest, longest = _INTERVAL_LIMITS_S
            self.interval_s = float(min(max(wanted, shortest), longest))


def encode(message: Mapping[str, Any]) -> str:
    """Compact JSON; non-ASCII is escaped, so that an id with a lone surrogate can be sent back."""
    return json.dumps(message, separators=(",", ":"))


def _decode(frame: str | bytes) -> dict[str, Any] | None:
    """The JSON object in a text frame, or None; numbers outside of JSON are refused."""
    if isinstance(frame, bytes):
        return None
    try:
        message = json.loads(frame, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("not a finite number")
    return number
