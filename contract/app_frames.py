"""The frames of an app's WebSocket as models: for documents and for checks, not for the frames on their way.

`bridge/apps/protocol.py` parses and builds frames; tests compare it with these.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from contract.app_socket import Mode
from contract.messages import DeviceId, EndReason, LogoutReason, Uid

ErrorCode = Literal[
    "bad_json", "unknown_type", "bad_field", "not_stored", "not_allowed", "no_such_device", "device_behind"
]


class _Frame(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class _Documented(_Frame):
    """Exactly the keys of the first guide."""

    model_config = ConfigDict(extra="forbid")


class SessionTold(_Frame):
    """A session of the user."""

    session_id: str
    device_id: DeviceId


class MissedTold(_Frame):
    """A wake that no app took."""

    id: str
    command: str
    device_id: DeviceId
    timestamp: str
    """By the device's clock, which may be wrong, or any text: not to be shown."""
    received_at: str | None = None
    """When the bridge received it; absent if an older version stored it."""


class ConnectionEstablished(_Documented):
    """First, once on each connection."""

    type: Literal["connection_established"]
    message: str
    connection_uuid: Uid
    timestamp: str


class HeartbeatAck(_Documented):
    """A heartbeat counted; none comes when the user is logged out."""

    type: Literal["heartbeat_ack"]
    timestamp: str
    status: Literal["active"]


class VoiceCommand(_Documented):
    """A device recognised the wake word: ring."""

    type: Literal["voice_command"]
    command: str
    timestamp: str


class LogoutAck(_Documented):
    """This user logged out by an app; each socket of the user gets it, then it is closed."""

    type: Literal["logout_ack"]
    timestamp: str


class ConnectionEstablishedV2(_Frame):
    """First, once on each connection."""

    type: Literal["connection_established"]
    message: str
    connection_uuid: Uid
    timestamp: str
    sessions: list[SessionTold]
    heartbeat_interval_s: float
    heartbeat_timeout_s: float
    missed: list[MissedTold]
    """Wakes that no app took since the last such connection, oldest first."""
    token_expires_in_s: float | None
    """Null without a token that expires."""
    clock_ms: int
    """Milliseconds on a clock of the bridge that never goes back; only differences have a meaning."""


class HeartbeatAckV2(_Frame):
    """A heartbeat counted; none comes when the user is logged out."""

    type: Literal["heartbeat_ack"]
    timestamp: str
    status: Literal["active"]
    seq: int | None = None
    """That of the heartbeat, if it had one."""
    expires_in_s: float
    clock_ms: int


class VoiceCommandV2(_Frame):
    """A device recognised the wake word: ring, once for each `id`."""

    type: Literal["voice_command"]
    command: str
    timestamp: str
    id: str
    device_id: DeviceId
    ttl_ms: int
    age_ms: int
    """The age of the wake when this frame was made."""
    received_at: str
    clock_ms: int


class WakeSeen(_Frame):
    """The user has answered this wake with another app: stop ringing."""

    type: Literal["wake_seen"]
    timestamp: str
    id: str


class LoginAck(_Frame):
    """The session is in the ledger."""

    type: Literal["login_ack"]
    timestamp: str
    session: SessionTold


class LogoutAckV2(_Frame):
    """This user is logged out; each socket of the user gets it, then it is closed."""

    type: Literal["logout_ack"]
    timestamp: str
    reason: LogoutReason


class SessionBegan(_Frame):
    """A session of this user is in the ledger, however it was opened."""

    type: Literal["session_began"]
    timestamp: str
    session: SessionTold


class SessionEnded(_Frame):
    """A session of this user ended on one device."""

    type: Literal["session_ended"]
    timestamp: str
    reason: LogoutReason | EndReason
    device_id: DeviceId


class Error(_Frame):
    """A message was not understood or not carried out."""

    type: Literal["error"]
    timestamp: str
    code: ErrorCode
    message: str
    temporary: bool
    """Whether the same message may succeed later."""


class AppHeartbeat(_Frame):
    """The app is there: this moves the user's deadline."""

    type: Literal["heartbeat"]


class AppHeartbeatV2(AppHeartbeat):
    """The app is there: this moves the user's deadline."""

    seq: int | None = None
    """Echoed in the answer."""


class AppLogout(_Frame):
    """The user logs out, on all devices."""

    type: Literal["logout"]


class AppLogin(_Frame):
    """The user wants to use a device."""

    type: Literal["login"]
    device_id: DeviceId


class AppHow(_Frame):
    """How the app could ring; every key may be absent."""

    permission: Literal["granted", "denied", "default", "insecure", "none"] | None = None
    sound: Literal["running", "locked", "none"] | None = None
    visible: bool | None = None


class AppAck(_Frame):
    """The app rang for this wake."""

    type: Literal["ack"]
    id: str
    how: AppHow | None = None


class AppSeen(_Frame):
    """The user has answered the call of this wake."""

    type: Literal["seen"]
    id: str


Frame = type[_Frame]

FROM_SERVER: Mapping[Mode, tuple[Frame, ...]] = {
    "legacy": (ConnectionEstablished, HeartbeatAck, VoiceCommand, LogoutAck),
    "v2": (
        ConnectionEstablishedV2,
        HeartbeatAckV2,
        VoiceCommandV2,
        WakeSeen,
        LoginAck,
        LogoutAckV2,
        SessionBegan,
        SessionEnded,
        Error,
    ),
}
FROM_APP: Mapping[Mode, tuple[Frame, ...]] = {
    "legacy": (AppHeartbeat, AppLogout),
    "v2": (AppHeartbeatV2, AppAck, AppSeen, AppLogin, AppLogout),
}


def type_of(frame: Frame) -> str:
    """The value of `type` in such a frame."""
    schema: dict[str, Any] = frame.model_json_schema()
    told: str = schema["properties"]["type"]["const"]
    return told
