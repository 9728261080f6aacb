"""The documented HTTP contract that legacy callers keep using, and the small HTTP side of sessions."""

from typing import Annotated

from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel, Field, StringConstraints

from bridge.service import Bridge
from bridge.sessions import describe
from contract.messages import LEGACY_DEVICE, DeviceId, Text, Uid, Wake, check_uid
from contract.web import Result, UserRequest, problems

router = APIRouter()

MAX_TEXT = 2**20
MIRRORED_CHARACTERS = 1024
NOT_STORED = {503: "The ledger could not be written; nothing was changed"}

AnyText = Annotated[str, StringConstraints(max_length=MAX_TEXT)]
"""Any text that UTF-8 can carry; the body's limit is far below this one."""


class Trigger(BaseModel):
    """The documented body; `timestamp` is any text, unparsed."""

    uid: AnyText
    command: Text
    timestamp: AnyText


class LoginBody(BaseModel):
    """Logs a user in on a device."""

    uid: Uid
    device_id: DeviceId = Field(description="as the device calls itself in its topics")


class LoginResult(Result):
    """The answer to a log-in."""

    session: dict[str, str]


class OperatorResult(BaseModel):
    """How many sessions of the user were ended; their devices are told now or when they are next seen."""

    success: bool
    sessions: int


class HeartbeatResult(BaseModel):
    """The deadline moved."""

    status: str
    expires_in_s: float


@router.post("/api/voice-command/trigger", responses=problems())
async def trigger_voice_command(body: Trigger, request: Request) -> Result:
    """Ring the user's apps; success when at least one socket took it."""
    bridge: Bridge = request.app.state.bridge
    try:
        check_uid(body.uid)
    except ValueError:
        # No app can be connected under such a uid: the documented answer is true.
        return Result(success=False, message="User not connected")
    timestamp = body.timestamp[:MIRRORED_CHARACTERS]
    wake = Wake(uid=body.uid, command=body.command, timestamp=timestamp, device_id=LEGACY_DEVICE)
    if bridge.relay.trigger(wake):
        return Result(success=True, message="Command sent")
    return Result(success=False, message="User not connected")


@router.post("/api/auth/logout", responses=problems(NOT_STORED))
async def logout(body: UserRequest, request: Request) -> Result:
    """End all sessions of the user; answered after the ledger has committed."""
    bridge: Bridge = request.app.state.bridge
    await bridge.sessions.logout(body.uid, "http")
    return Result(success=True, message="Logged out successfully")


@router.post("/api/sessions/logout", responses=problems(NOT_STORED))
async def operator_logout(body: UserRequest, request: Request) -> OperatorResult:
    """End all sessions of the user because an operator says so."""
    bridge: Bridge = request.app.state.bridge
    return OperatorResult(success=True, sessions=await bridge.sessions.logout(body.uid, "operator"))


@router.post("/api/auth/login", responses=problems(NOT_STORED))
async def login(body: LoginBody, request: Request) -> LoginResult:
    """Open a session of the user on the device; whoever was in is logged out."""
    bridge: Bridge = request.app.state.bridge
    if body.device_id == LEGACY_DEVICE:
        raise HTTPException(422, f"device_id: {LEGACY_DEVICE} is reserved")
    session = await bridge.sessions.login(body.uid, body.device_id, "http")
    return LoginResult(success=True, message="Logged in successfully", session=describe(session))


@router.post("/api/app/heartbeat", responses=problems({409: "This user is not logged in", **NOT_STORED}))
async def heartbeat(body: UserRequest, request: Request) -> HeartbeatResult:
    """The heartbeat of a phone that cannot hold a socket."""
    bridge: Bridge = request.app.state.bridge
    expires_in_s = await bridge.sessions.heartbeat(body.uid)
    if expires_in_s is None:
        raise HTTPException(409, "this user is not logged in: connect or log in first")
    return HeartbeatResult(status="active", expires_in_s=expires_in_s)
