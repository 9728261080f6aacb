"""What an app may say and what it hears, on the documented protocol and on sarvis.v2. No input, no output."""

import json
import re
from dataclasses import dataclass
from enum import IntEnum
from json.encoder import encode_basestring
from typing import Any, Literal

from msgspec import MsgspecError
from msgspec.json import decode

from contract.messages import DEVICE_ID_PATTERN, LogoutReason

SUBPROTOCOL_V2 = "sarvis.v2"
MAX_FRAME_BYTES = 16 * 1024
MAX_REASON_BYTES = 123
MAX_ID_CHARACTERS = 64
MARK = "\ufeff"
_DEVICE_ID = re.compile(DEVICE_ID_PATTERN)

Mode = Literal["legacy", "v2"]


class CloseCode(IntEnum):
    """Why the server closes. 4000 to 4499: come back with jitter; 4500 and above: the person decides."""

    GOING_AWAY = 1001
    DRAIN = 4000
    SLOW_CONSUMER = 4001
    RATE = 4008
    HEARTBEAT_TIMEOUT = 4500
    LOGGED_OUT = 4501
    REPLACED = 4502
    UNAUTHORISED = 4503
    BAD_MESSAGE = 4504
    TOO_MANY = 4505


# Not frozen: a frozen one takes twice as long to make, and one is made of every frame.
@dataclass(slots=True)
class Heartbeat:
    """The app is alive; `seq` is echoed."""

    seq: int | None


@dataclass(slots=True)
class WakeAck:
    """The app rang for the wake `id`."""

    id: str


@dataclass(frozen=True, slots=True)
class WakeSeen:
    """The person has answered the call of the wake `id`: the user's other apps need not ring any more."""

    id: str


@dataclass(frozen=True, slots=True)
class LoginRequest:
    """The user wants to use a device."""

    device_id: str


@dataclass(frozen=True, slots=True)
class LogoutRequest:
    """The user leaves, everywhere."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A message that means nothing; the answer for sarvis.v2, silence on the documented protocol."""

    code: Literal["bad_json", "unknown_type", "bad_field"]
    message: str


Request = Heartbeat | WakeAck | WakeSeen | LoginRequest | LogoutRequest | Refused


def parse(mode: Mode, frame: str | bytes) -> Request:
    """Understand one frame of an app; whatever it holds, the result is a request, never an exception.

    Many a library sends bytes as a binary frame where its user thinks of a text: what is in it counts.
    """
    message = _decoded(frame)
    if not isinstance(message, dict):
        return Refused("bad_json", "a message is a frame that holds a JSON object")
    match message.get("type"):
        case "ack" | "seen" as kind if mode == "v2":
            return _of_wake(WakeAck if kind == "ack" else WakeSeen, message.get("id"))
        case "heartbeat":
            return Heartbeat(_whole_number(message.get("seq")))
        case "logout":
            return LogoutRequest()
        case "login" if mode == "v2":
            return _login(message.get("device_id"))
        case _:
            return Refused("unknown_type", "type: no message of this name")


def _decoded(frame: str | bytes) -> Any:
    try:
        return decode(frame)
    except (MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    try:
        # Takes some more: half a surrogate for one, as the documented server did, and the mark before UTF-8.
        return json.loads(frame.removeprefix(MARK) if isinstance(frame, str) else frame)
    except (ValueError, RecursionError):
        return None


def _of_wake(kind: type[WakeAck | WakeSeen], wake_id: Any) -> WakeAck | WakeSeen | Refused:
    if isinstance(wake_id, str) and 1 <= len(wake_id) <= MAX_ID_CHARACTERS:
        return kind(wake_id)
    return Refused("bad_field", "id: the id of a voice_command is missing")


def _login(device_id: Any) -> LoginRequest | Refused:
    if isinstance(device_id, str) and _DEVICE_ID.fullmatch(device_id):
        return LoginRequest(device_id)
    return Refused("bad_field", f"device_id: must match {DEVICE_ID_PATTERN}")


def _whole_number(value: Any) -> int | None:
    largest = 2**53  # what JavaScript counts exactly
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a language with one kind of number writes 1.0
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= largest else None


class Frames:
    """Makes the server's frames for one mode: legacy holds exactly the documented keys, v2 adds its own."""

    def __init__(self, mode: Mode) -> None:
        self._v2 = mode == "v2"

    def established(
        self,
        uid: str,
        timestamp: str,
        *,
        clock_ms: int,
        interval_s: float,
        timeout_s: float,
        sessions: list[dict[str, str]],
        missed: list[dict[str, str]],
    ) -> str:
        """The first frame of every connection; `clock_ms` as in `voice_command`."""
        return self._frame(
            {
                "type": "connection_established",
                "message": "Connected to SARVIS Server",
                "connection_uuid": uid,
                "timestamp": timestamp,
            },
            sessions=sessions,
            heartbeat_interval_s=interval_s,
            heartbeat_timeout_s=timeout_s,
            missed=missed,
            clock_ms=clock_ms,
        )

    # The next two are written by hand: most of what a bridge says.

    def heartbeat_ack(self, timestamp: str, *, seq: int | None, expires_in_s: float, clock_ms: int) -> str:
        """The heartbeat counted; `clock_ms` as in `voice_command`."""
        documented = f'{{"type":"heartbeat_ack","timestamp":"{timestamp}","status":"active"'
        if not self._v2:
            return documented + "}"
        rest = f'"expires_in_s":{expires_in_s!r},"clock_ms":{clock_ms}}}'
        return f"{documented},{rest}" if seq is None else f'{documented},"seq":{seq},{rest}'

    def voice_command(
        self,
        command: str,
        timestamp: str,
        *,
        wake_id: str,
        device_id: str,
        ttl_ms: int,
        age_ms: int,
        received_at: str,
        clock_ms: int,
    ) -> str:
        """The wake word was heard; `received_at` is when that came here.

        `timestamp` and `clock_ms` are of this moment, by the wall clock and by one that never goes back; `age_ms` is
        the wake's age now.
        """
        documented = f'{{"type":"voice_command","command":{encode_basestring(command)},"timestamp":"{timestamp}"'
        if not self._v2:
            return documented + "}"
        named = f'"id":{encode_basestring(wake_id)},"device_id":"{device_id}","ttl_ms":{ttl_ms}'
        return f'{documented},{named},"age_ms":{age_ms},"received_at":"{received_at}","clock_ms":{clock_ms}}}'

    def wake_seen(self, timestamp: str, wake_id: str) -> str | None:
        """The person has answered with another app; nothing on the documented protocol."""
        if not self._v2:
            return None
        return self._frame({"type": "wake_seen", "timestamp": timestamp}, id=wake_id)

    def login_ack(self, timestamp: str, session: dict[str, str]) -> str:
        """The session is in the ledger."""
        return self._frame({"type": "login_ack", "timestamp": timestamp}, session=session)

    def logout_ack(self, timestamp: str, reason: LogoutReason) -> str:
        """All sessions of the user are ended in the ledger."""
        return self._frame({"type": "logout_ack", "timestamp": timestamp}, reason=reason)

    def session_began(self, timestamp: str, session: dict[str, str]) -> str | None:
        """A session of the user is in the ledger, whoever asked for it; nothing on the documented protocol."""
        if not self._v2:
            return None
        return self._frame({"type": "session_began", "timestamp": timestamp}, session=session)

    def session_ended(self, timestamp: str, *, reason: str, device_id: str) -> str | None:
        """A session ended; nothing on the documented protocol."""
        if not self._v2:
            return None
        return self._frame({"type": "session_ended", "timestamp": timestamp}, reason=reason, device_id=device_id)

    def error(self, timestamp: str, *, code: str, message: str, temporary: bool) -> str | None:
        """A message was not understood or not carried out; nothing on the documented protocol."""
        if not self._v2:
            return None
        return self._frame({"type": "error", "timestamp": timestamp}, code=code, message=message, temporary=temporary)

    def _frame(self, documented: dict[str, Any], **v2: Any) -> str:
        return dump({**documented, **v2} if self._v2 else documented)


FRAMES: dict[Mode, Frames] = {"legacy": Frames("legacy"), "v2": Frames("v2")}
"""They hold no state: one for all sockets."""


def dump(message: dict[str, Any]) -> str:
    """JSON as the documented server writes it: no spaces, Hangul unescaped."""
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False)


def close_reason(code: CloseCode, text: str) -> str:
    """The short JSON that travels in a close frame, cut to what fits."""
    reason = dump({"code": code.name.lower(), "message": text})
    while len(reason.encode()) > MAX_REASON_BYTES:
        text = text[:-1]
        reason = dump({"code": code.name.lower(), "message": text})
    return reason
