"""The documented HTTP contract, and the HTTP endpoints of sessions and devices."""

from typing import Annotated

from fastapi import APIRouter, Header, HTTPException, Request, Response
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, StringConstraints, WithJsonSchema

from bridge.api.event_ids import EVENT_HEADER, MAX_KEY_CHARACTERS, event_id
from bridge.auth.middleware import actor_of, principal_of
from bridge.console.logins import LINK_S, Logins
from bridge.drain import Times
from bridge.service import Bridge
from bridge.sessions.errors import DeviceBehindError, NoSuchDeviceError
from bridge.sessions.service import describe
from contract.messages import LEGACY_DEVICE, DeviceId, Text, Uid, absent_is_default
from contract.names import NOTE_MAX_CHARACTERS, check_note, check_uid
from contract.wake_codec import QuickWake
from infra.web.api import Result, UserRequest, example, problems

router = APIRouter()

TRIGGER_PATH = "/api/voice-command/trigger"
MAX_TEXT = 2**20
MIRRORED_CHARACTERS = 1024
NOT_STORED = {503: "The ledger could not be written; nothing was changed"}
DENIED = {
    401: "A valid credential is needed",
    403: "This credential is not for this endpoint, user or device; or a web page of another origin calls",
    429: "Too many requests; Retry-After says when to try again",
}

NO_DEVICE = "No such device: an operator adds it"
BEHIND = "The device runs with an older copy of its state; update it, or delete its state file there"

AnyText = Annotated[str, StringConstraints(max_length=MAX_TEXT)]
"""Any text in UTF-8; the limit of the body is far below this one."""


TRUTH_OR_ABSENT = {
    "anyOf": [
        {"type": "boolean"},
        {"enum": [None, "", 0, 1, "true", "false"]},
        {"type": "array", "maxItems": 0},
        {"type": "object", "maxProperties": 0},
    ]
}
"""The values that callers write for true, false and an absent value, for the API description."""


NOTE_OR_ABSENT = {
    "anyOf": [
        {"type": "string", "maxLength": NOTE_MAX_CHARACTERS},
        {"type": "null"},
        {"type": "array", "maxItems": 0},
        {"type": "object", "maxProperties": 0},
    ]
}
"""A note, and the values that callers write for an absent one."""


IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=MAX_KEY_CHARACTERS,
        examples=["2b9c8a52-3f0e-4d6b-9a57-1c3e5f7a9b0d"],
        description="a retried request with the same key, user and command rings once: while this bridge remembers the "
        "wake, which it does for the newest 10,000",
    ),
]


class OperatorLogout(UserRequest):
    """Names a user; `note` says why, for the audit."""

    model_config = example({"uid": "alice", "note": "lost phone"})

    note: Annotated[
        str,
        Field(max_length=NOTE_MAX_CHARACTERS),
        AfterValidator(check_note),
        BeforeValidator(absent_is_default),
        WithJsonSchema(NOTE_OR_ABSENT),
    ] = Field(default="", description="why, for the audit: one line")


class Trigger(BaseModel):
    """The documented body; `timestamp` is any text, unparsed."""

    model_config = example({"uid": "alice", "command": "wake_up", "timestamp": "2026-01-01T00:00:00"})

    uid: AnyText
    command: Text
    timestamp: AnyText


class LoginBody(BaseModel):
    """Logs a user in on a device."""

    model_config = example({"uid": "alice", "device_id": "jetson-1"})

    uid: Uid
    device_id: DeviceId = Field(description="the name of the device in its topics")


class LoginResult(Result):
    """The answer to a log-in."""

    model_config = example(
        {
            "success": True,
            "message": "Logged in successfully",
            "session": {"session_id": "c4d1", "device_id": "jetson-1"},
        }
    )

    session: dict[str, str]


class RemoveBody(BaseModel):
    """Removes a device."""

    model_config = example({"device_id": "jetson-1"})

    device_id: DeviceId
    give_up: Annotated[bool, BeforeValidator(absent_is_default), WithJsonSchema(TRUTH_OR_ABSENT)] = Field(
        default=False, description="do not wait for the device to confirm its log-out"
    )


class RemoveResult(BaseModel):
    """The device is removed; it has not confirmed `waiting` log-outs yet."""

    model_config = example({"success": True, "waiting": 1})

    success: bool
    waiting: int


class OperatorResult(BaseModel):
    """How many sessions of the user were ended; their devices receive the log-out now or when they reconnect."""

    model_config = example({"success": True, "sessions": 1})

    success: bool
    sessions: int


class DrainResult(BaseModel):
    """The bridge leaves: `sockets` apps are asked to reconnect, and it ends within `within_s` seconds."""

    model_config = example({"success": True, "sockets": 3, "within_s": 2.0})

    success: bool
    sockets: int
    within_s: float


class ConsoleResult(BaseModel):
    """Below the bridge's address this path logs a browser in to the console once, within `within_s` seconds."""

    model_config = example({"path": "/console", "within_s": 600.0})

    path: str
    within_s: float


class HeartbeatResult(BaseModel):
    """The deadline was extended."""

    model_config = example({"status": "active", "expires_in_s": 3600.0})

    status: str
    expires_in_s: float


@router.post(TRIGGER_PATH, responses=problems(DENIED))
async def trigger_voice_command(
    body: Trigger, request: Request, response: Response, idempotency_key: IdempotencyKey = None
) -> Result:
    """Ring the user's apps; success if at least one socket accepted it.

    The header X-Sarvis-Event-Id of the answer names the wake.
    """
    wake_id = event_id(principal_of(request).name, idempotency_key, body.uid, body.command)
    response.headers[EVENT_HEADER] = wake_id
    rung = await ring(request.app.state.bridge, body, wake_id)
    return Result(success=rung, message="Command sent" if rung else "User not connected")


async def ring(bridge: Bridge, body: Trigger, wake_id: str) -> bool:
    """Ring the user's apps; whether a socket accepted it. A known wake does not ring again."""
    try:
        check_uid(body.uid)
    except ValueError:
        # An app cannot connect with such a uid: the documented answer is true.
        return False
    timestamp = body.timestamp[:MIRRORED_CHARACTERS]
    return await bridge.trigger(QuickWake(body.uid, body.command, timestamp, id=wake_id, device_id=LEGACY_DEVICE))


@router.post("/api/auth/logout", responses=problems(DENIED | NOT_STORED))
async def logout(body: UserRequest, request: Request) -> Result:
    """End all sessions of the user; answered after the ledger has committed."""
    bridge: Bridge = request.app.state.bridge
    speak_for(request, body.uid)
    await bridge.sessions.logout(body.uid, "http", actor_of(request))
    return Result(success=True, message="Logged out successfully")


@router.post("/api/sessions/logout", responses=problems(DENIED | NOT_STORED))
async def operator_logout(body: OperatorLogout, request: Request) -> OperatorResult:
    """End all sessions of the user, as an operator's action."""
    bridge: Bridge = request.app.state.bridge
    by = actor_of(request)._replace(note=body.note)
    sessions = await bridge.sessions.logout(body.uid, "operator", by)
    return OperatorResult(success=True, sessions=sessions)


@router.post("/api/devices/remove", responses=problems(DENIED | NOT_STORED | {404: NO_DEVICE}))
async def remove_device(body: RemoveBody, request: Request) -> RemoveResult:
    """Log out the device's user and allow no log-in there again; for `sarvis device remove`."""
    bridge: Bridge = request.app.state.bridge
    try:
        waiting = await bridge.remove_device(body.device_id, give_up=body.give_up, by=actor_of(request))
    except NoSuchDeviceError:
        raise HTTPException(404, NO_DEVICE) from None
    return RemoveResult(success=True, waiting=waiting)


@router.post("/api/bridge/drain", responses=problems(DENIED))
async def drain(request: Request) -> DrainResult:
    """Send all apps away, a few at a time, and end; for `sarvis drain`. It answers before it begins."""
    bridge: Bridge = request.app.state.bridge
    bridge.asked_to_leave.set()
    times = Times.of(bridge.settings)
    return DrainResult(success=True, sockets=len(bridge.hub), within_s=times.lead_s + times.rest_s)


@router.post("/api/console/link", responses=problems(DENIED))
async def console_link(request: Request) -> ConsoleResult:
    """Make a link that logs in to the console once, in the name of the operator's key; for `sarvis console`."""
    bridge: Bridge = request.app.state.bridge
    logins: Logins = request.app.state.console_logins
    if not bridge.authenticator.required:
        return ConsoleResult(path="/console", within_s=LINK_S)
    once = logins.link(principal_of(request).name, bridge.clock.monotonic())
    return ConsoleResult(path=f"/console/log-in?once={once}", within_s=LINK_S)


@router.post("/api/auth/login", responses=problems(DENIED | NOT_STORED | {404: NO_DEVICE, 409: BEHIND}))
async def login(body: LoginBody, request: Request) -> LoginResult:
    """Open a session of the user on the device; another user there is logged out."""
    bridge: Bridge = request.app.state.bridge
    speak_for(request, body.uid)
    if body.device_id == LEGACY_DEVICE:
        raise HTTPException(422, f"device_id: {LEGACY_DEVICE} is reserved")
    if not principal_of(request).may_log_in_on(body.device_id):
        raise HTTPException(403, "this token is not for this device")
    try:
        session = await bridge.sessions.login(body.uid, body.device_id, "http", actor_of(request))
    except NoSuchDeviceError:
        raise HTTPException(404, NO_DEVICE) from None
    except DeviceBehindError:
        raise HTTPException(409, BEHIND) from None
    return LoginResult(success=True, message="Logged in successfully", session=describe(session))


@router.post("/api/app/heartbeat", responses=problems(DENIED | NOT_STORED | {409: "This user is not logged in"}))
async def heartbeat(body: UserRequest, request: Request) -> HeartbeatResult:
    """The heartbeat of a phone that cannot hold a socket."""
    bridge: Bridge = request.app.state.bridge
    speak_for(request, body.uid)
    expires_in_s = await bridge.sessions.heartbeat(body.uid)
    if expires_in_s is None:
        raise HTTPException(409, "this user is not logged in: connect or log in first")
    return HeartbeatResult(status="active", expires_in_s=expires_in_s)


def speak_for(request: Request, uid: str) -> None:
    """Raises HTTPException if the caller may not act for this user."""
    if not principal_of(request).speaks_for(uid):
        raise HTTPException(403, "this token is not for this uid")
