"""Parses frames of apps and builds frames for them, in the documented protocol and in sarvis.v2.

No input, no output.
"""

import json
import re
from dataclasses import dataclass
from json.encoder import encode_basestring
from typing import Any, Literal

from msgspec import MsgspecError
from msgspec.json import decode

from contract.app_socket import CloseCode, Mode
from contract.messages import LogoutReason
from contract.names import DEVICE_ID_PATTERN

MAX_REASON_BYTES = 123
MAX_ID_CHARACTERS = 64
MARK = "\ufeff"
_DEVICE_ID = re.compile(DEVICE_ID_PATTERN)


# Not frozen: a frozen class takes twice as long to create, and each frame creates one.
@dataclass(slots=True)
class Heartbeat:
    """The app is alive; `seq` is echoed."""

    seq: int | None


How = dict[str, str | bool]
"""How an app rang: `permission`, `sound`, `visible`."""
PERMISSIONS = frozenset({"granted", "denied", "default", "insecure", "none"})
SOUNDS = frozenset({"running", "locked", "none"})


@dataclass(slots=True)
class WakeAck:
    """The app rang for the wake `id`; `how` it rang, if it says so."""

    id: str
    how: How | None = None


@dataclass(frozen=True, slots=True)
class WakeSeen:
    """The user has answered the call of the wake `id`: the user's other apps stop ringing."""

    id: str


@dataclass(frozen=True, slots=True)
class LoginRequest:
    """The user wants to use a device."""

    device_id: str


@dataclass(frozen=True, slots=True)
class LogoutRequest:
    """The user logs out, on all devices."""


@dataclass(frozen=True, slots=True)
class Refused:
    """An invalid message; sarvis.v2 answers with an error, the documented protocol with nothing."""

    code: Literal["bad_json", "unknown_type", "bad_field"]
    message: str


Request = Heartbeat | WakeAck | WakeSeen | LoginRequest | LogoutRequest | Refused


def parse(mode: Mode, frame: str | bytes) -> Request:
    """Parse one frame of an app; whatever it holds, the result is a request, never an exception.

    Some libraries send bytes as a binary frame where their user meant text: the content counts.
    """
    message = _decoded(frame)
    if not isinstance(message, dict):
        return Refused("bad_json", "a message is a frame that holds a JSON object")
    match message.get("type"):
        case "ack" | "seen" as kind if mode == "v2":
            request = _of_wake(WakeAck if kind == "ack" else WakeSeen, message.get("id"))
            if "how" in message and isinstance(request, WakeAck):
                request.how = _how(message["how"])
            return request
        case "heartbeat":
            return Heartbeat(_whole_number(message.get("seq")))
        case "logout":
            return LogoutRequest()
        case "login" if mode == "v2":
            return _login(message.get("device_id"))
        case _:
            return Refused("unknown_type", "type: no message has this name")


def _decoded(frame: str | bytes) -> Any:
    try:
        return decode(frame)
    except (MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    try:
        # Accepts more than JSON: a lone surrogate, as the documented server did, and a byte order mark.
        return json.loads(frame.removeprefix(MARK) if isinstance(frame, str) else frame)
    except (ValueError, RecursionError):
        return None


def _of_wake(kind: type[WakeAck | WakeSeen], wake_id: Any) -> WakeAck | WakeSeen | Refused:
    if isinstance(wake_id, str) and 1 <= len(wake_id) <= MAX_ID_CHARACTERS:
        return kind(wake_id)
    return Refused("bad_field", "id: the id of a voice_command is missing")


def _how(told: Any) -> How | None:
    """What is understood of it: a confirmation is never refused for what it adds."""
    if not isinstance(told, dict):
        return None
    how: How = {}
    for name, known in (("permission", PERMISSIONS), ("sound", SOUNDS)):
        if isinstance(value := told.get(name), str) and value in known:
            how[name] = value
    if isinstance(visible := told.get("visible"), bool):
        how["visible"] = visible
    return how or None


def _login(device_id: Any) -> LoginRequest | Refused:
    if isinstance(device_id, str) and _DEVICE_ID.fullmatch(device_id):
        return LoginRequest(device_id)
    return Refused("bad_field", f"device_id: must match {DEVICE_ID_PATTERN}")


def _whole_number(value: Any) -> int | None:
    largest = 2**53  # the integers that JavaScript represents exactly
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # languages with a single number type write 1.0
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= largest else None


class Frames:
    """Builds the server's frames for one mode: legacy has exactly the documented keys, v2 adds its own."""

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
        token_expires_in_s: float | None,
    ) -> str:
        """The first frame of every connection; `clock_ms` as in `voice_command`.

        None: the app has no token that expires.
        """
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
            token_expires_in_s=token_expires_in_s,
            clock_ms=clock_ms,
        )

    # The next two are written by hand: they are most of the bridge's output.

    def heartbeat_ack(self, timestamp: str, *, seq: int | None, expires_in_s: float, clock_ms: int) -> str:
        """Confirms a heartbeat; `clock_ms` as in `voice_command`."""
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
        """A device recognised the wake word; `received_at` is when the bridge received that.

        `timestamp` and `clock_ms` are the time of this call, by the wall clock and the monotonic clock; `age_ms` is the
        wake's
        current age.
        """
        documented = f'{{"type":"voice_command","command":{encode_basestring(command)},"timestamp":"{timestamp}"'
        if not self._v2:
            return documented + "}"
        named = f'"id":{encode_basestring(wake_id)},"device_id":"{device_id}","ttl_ms":{ttl_ms}'
        return f'{documented},{named},"age_ms":{age_ms},"received_at":"{received_at}","clock_ms":{clock_ms}}}'

    def wake_seen(self, timestamp: str, wake_id: str) -> str | None:
        """The user has answered with another app; nothing in the documented protocol."""
        if not self._v2:
            return None
        return self._frame({"type": "wake_seen", "timestamp": timestamp}, id=wake_id)

    def login_ack(self, timestamp: str, session: dict[str, str]) -> str:
        """The session is in the ledger."""
        return self._frame({"type": "login_ack", "timestamp": timestamp}, session=session)

    def logout_ack(self, timestamp: str, reason: LogoutReason) -> str:
        """The ledger has ended all sessions of the user."""
        return self._frame({"type": "logout_ack", "timestamp": timestamp}, reason=reason)

    def session_began(self, timestamp: str, session: dict[str, str]) -> str | None:
        """The ledger has a session of the user, however it was opened; nothing in the documented protocol."""
        if not self._v2:
            return None
        return self._frame({"type": "session_began", "timestamp": timestamp}, session=session)

    def session_ended(self, timestamp: str, *, reason: str, device_id: str) -> str | None:
        """A session ended; nothing in the documented protocol."""
        if not self._v2:
            return None
        return self._frame({"type": "session_ended", "timestamp": timestamp}, reason=reason, device_id=device_id)

    def error(self, timestamp: str, *, code: str, message: str, temporary: bool) -> str | None:
        """A message was invalid or not carried out; nothing in the documented protocol."""
        if not self._v2:
            return None
        return self._frame({"type": "error", "timestamp": timestamp}, code=code, message=message, temporary=temporary)

    def _frame(self, documented: dict[str, Any], **v2: Any) -> str:
        return dump({**documented, **v2} if self._v2 else documented)


FRAMES: dict[Mode, Frames] = {"legacy": Frames("legacy"), "v2": Frames("v2")}
"""Stateless: one object serves all sockets."""


def dump(message: dict[str, Any]) -> str:
    """JSON as the documented server writes it: no spaces, Hangul unescaped."""
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False)


def close_reason(code: CloseCode, text: str, retry_ms: int | None = None) -> str:
    """The short JSON of a close frame, cut to the length that fits."""
    more = {} if retry_ms is None else {"retry_ms": retry_ms}
    reason = dump({"code": code.name.lower(), "message": text, **more})
    while len(reason.encode()) > MAX_REASON_BYTES:
        text = text[:-1]
        reason = dump({"code": code.name.lower(), "message": text, **more})
    return reason
