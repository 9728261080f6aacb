"""Carries out the requests in an app's frames, on both kinds of socket."""

from collections.abc import Coroutine
from typing import Any, get_args, get_type_hints

from bridge.apps.connection import AppConnection
from bridge.apps.protocol import Heartbeat, LoginRequest, LogoutRequest, Refused, WakeAck, WakeSeen, parse
from bridge.service import Bridge
from bridge.sessions.connect import UserData
from bridge.sessions.errors import DeviceBehindError, NoSuchDeviceError
from bridge.sessions.service import describe
from bridge.storage.records import By, Missed
from bridge.storage.store import StoreError
from contract.clock import clock_ms, iso
from contract.messages import LEGACY_DEVICE
from infra.telemetry import CounterFamily, get_logger

IGNORED = CounterFamily(
    "sarvis_app_messages_ignored",
    "Messages of apps that were not understood",
    "code",
    get_args(get_type_hints(Refused)["code"]),
)

log = get_logger("websocket")


NOTHING = UserData([], [])
"""What a socket is told that returned by itself."""


def established(bridge: Bridge, connection: AppConnection, user: UserData) -> str:
    """The first frame of a connection, called once: it includes what the user missed."""
    settings = bridge.settings.bridge
    expires_at = connection.principal.expires_at
    left_s = None if expires_at is None else max(expires_at - bridge.clock.utc_now().timestamp(), 0.0)
    return connection.frames.established(
        connection.uid,
        iso(bridge.clock.utc_now()),
        clock_ms=clock_ms(bridge.clock),
        interval_s=settings.heartbeat_interval_s,
        timeout_s=settings.heartbeat_timeout_s,
        sessions=[describe(session) for session in user.sessions],
        missed=[describe_missed(wake) for wake in bridge.relay.missed(connection.uid, user.missed)]
        if connection.mode == "v2"
        else [],
        token_expires_in_s=None if left_s is None else round(left_s, 1),
    )


def obey(bridge: Bridge, connection: AppConnection, frame: str | bytes) -> Coroutine[Any, Any, None] | None:
    """Carry out one frame. Returns what needs the ledger, to be awaited before the next frame."""
    request = parse(connection.mode, frame)
    if isinstance(request, WakeAck):
        bridge.relay.acked(connection.uid, request.id, connection.label, request.how)
        return None
    if isinstance(request, Heartbeat) and bridge.sessions.try_heartbeat(connection.uid):
        _acknowledge(bridge, connection, request, bridge.settings.bridge.heartbeat_timeout_s)
        return None
    if isinstance(request, WakeSeen):
        bridge.relay.seen(connection, request.id)
        return None
    if isinstance(request, Refused):
        _note(bridge, connection, request, "binary" if isinstance(frame, bytes) else "text")
        _complain(bridge, connection, request.code, request.message)
        return None
    return _carry_out(bridge, connection, request)


def _note(bridge: Bridge, connection: AppConnection, request: Refused, kind: str) -> None:
    """Always counted; logged once for each socket, and rarely for all sockets together."""
    IGNORED.counts[request.code] += 1
    if not connection.misunderstood and bridge.may_tell_of_misunderstood():
        connection.misunderstood = True
        log.warning(
            "app_message_ignored",
            uid=connection.uid,
            mode=connection.mode,
            frame=kind,
            code=request.code,
            reason=request.message,
            advice="logged once for each socket; see sarvis_app_messages_ignored_total",
        )


def describe_missed(missed: Missed) -> dict[str, str]:
    """A missed wake as apps see it."""
    told = {
        "id": missed.id,
        "command": missed.command,
        "device_id": missed.device_id,
        "timestamp": missed.timestamp,
    }
    return told if missed.received_at is None else {**told, "received_at": missed.received_at}


def _acknowledge(bridge: Bridge, connection: AppConnection, request: Heartbeat, expires_in_s: float) -> None:
    frame = connection.frames.heartbeat_ack(
        bridge.stamps.now(), seq=request.seq, expires_in_s=expires_in_s, clock_ms=clock_ms(bridge.clock)
    )
    connection.send(frame)


async def _carry_out(
    bridge: Bridge, connection: AppConnection, request: Heartbeat | LoginRequest | LogoutRequest
) -> None:
    try:
        match request:
            case Heartbeat():
                expires_in_s = await bridge.sessions.heartbeat(connection.uid)
                if expires_in_s is None and await bridge.heard_again(connection):
                    expires_in_s = bridge.settings.bridge.heartbeat_timeout_s
                if expires_in_s is not None:
                    _acknowledge(bridge, connection, request, expires_in_s)
            case LoginRequest(device_id):
                await _log_in(bridge, connection, device_id)
            case LogoutRequest():
                await bridge.sessions.logout(connection.uid, "app", _actor_of(connection))
    except StoreError:
        # Not stored, so not answered: the documented protocol has no message for it.
        _complain(bridge, connection, "not_stored", "try again", temporary=True)


def _actor_of(connection: AppConnection) -> By:
    # Also where no credentials are required: the app has said whose it is.
    return By(f"app:{connection.uid}", connection.address, "socket")


async def _log_in(bridge: Bridge, connection: AppConnection, device_id: str) -> None:
    if device_id == LEGACY_DEVICE:
        _complain(bridge, connection, "bad_field", f"device_id: {LEGACY_DEVICE} is reserved")
        return
    if not connection.principal.may_log_in_on(device_id):
        _complain(bridge, connection, "not_allowed", "device_id: this token is not for this device")
        return
    try:
        session = await bridge.sessions.login(connection.uid, device_id, "app", _actor_of(connection))
    except NoSuchDeviceError as error:
        _complain(bridge, connection, "no_such_device", f"device_id: {error}")
        return
    except DeviceBehindError as error:
        _complain(bridge, connection, "device_behind", f"device_id: {error}", temporary=True)
        return
    connection.send(connection.frames.login_ack(iso(bridge.clock.utc_now()), describe(session)))


def _complain(bridge: Bridge, connection: AppConnection, code: str, message: str, *, temporary: bool = False) -> None:
    now = iso(bridge.clock.utc_now())
    frame = connection.frames.error(now, code=code, message=message, temporary=temporary)
    if frame is not None:
        connection.send(frame)
