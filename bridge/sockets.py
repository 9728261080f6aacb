"""The endpoint `/ws/app/{connection_uuid}/`: what a request of an app makes the bridge do."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.websockets import WebSocket, WebSocketDisconnect

from bridge.app_protocol import (
    SUBPROTOCOL_V2,
    CloseCode,
    Heartbeat,
    LoginRequest,
    LogoutRequest,
    Mode,
    Refused,
    WakeAck,
    parse,
)
from bridge.auth.doorkeeper import address_of, denial
from bridge.auth.doors import FORBIDDEN, TOO_MANY, Refusal
from bridge.auth.principals import Principal
from bridge.auth.rates import Budget, amount_of
from bridge.connection import AppConnection, refuse
from bridge.rows import Missed
from bridge.service import Bridge
from bridge.sessions import DeviceBehindError, NoSuchDeviceError, describe
from bridge.store import StoreError
from contract.clock import iso
from contract.messages import LEGACY_DEVICE, check_uid
from contract.telemetry import get_logger

MAX_CLIENT_CHARACTERS = 64

log = get_logger("sockets")


async def app_socket(websocket: WebSocket) -> None:
    """Serve one app until it goes; raises nothing for what the app does."""
    bridge: Bridge = websocket.app.state.bridge
    uid = websocket.path_params["connection_uuid"]
    try:
        await _serve(bridge, websocket, uid)
    except WebSocketDisconnect:
        log.debug("app_left_early", uid=uid)


async def _serve(bridge: Bridge, websocket: WebSocket, uid: str) -> None:
    principal = await _judge(bridge, websocket, uid)
    if principal is None:
        return
    client = websocket.query_params.get("client")
    try:
        check_uid(uid)
    except ValueError as error:
        await refuse(websocket, CloseCode.BAD_MESSAGE, f"connection_uuid {error}")
        return
    if client is not None and not 1 <= len(client) <= MAX_CLIENT_CHARACTERS:
        await refuse(websocket, CloseCode.BAD_MESSAGE, f"client must have 1 to {MAX_CLIENT_CHARACTERS} characters")
        return
    if bridge.draining:
        await refuse(websocket, CloseCode.DRAIN, "the server restarts")
        return
    mode: Mode = "v2" if SUBPROTOCOL_V2 in websocket.scope["subprotocols"] else "legacy"
    await websocket.accept(SUBPROTOCOL_V2 if mode == "v2" else None)
    connection = AppConnection(websocket, uid, mode, principal)
    settings = bridge.settings.bridge
    try:
        sessions = await bridge.sessions.connected(uid)
    except StoreError:
        await refuse(websocket, CloseCode.DRAIN, "the ledger cannot be written")
        return
    connection.send(
        connection.frames.established(
            uid,
            iso(bridge.clock.utc_now()),
            interval_s=settings.heartbeat_interval_s,
            timeout_s=settings.heartbeat_timeout_s,
            sessions=sessions,
            missed=[_describe(wake) for wake in bridge.relay.missed(uid)] if mode == "v2" else [],
        )
    )
    bridge.join(connection, client)
    log.info("app_connected", uid=uid, mode=mode)

    budget = Budget(*amount_of(bridge.settings.limits.frames))

    async def on_frame(frame: str | bytes) -> None:
        if not budget.spend(bridge.clock.monotonic()):
            connection.close(CloseCode.RATE, "too many messages")
            return
        try:
            await _obey(bridge, connection, frame)
        except StoreError:
            # Not stored, so not answered: the documented protocol has no word for it.
            _complain(connection, iso(bridge.clock.utc_now()), "not_stored", "try again", temporary=True)

    with _until_it_expires(bridge, connection):
        try:
            await connection.serve(on_frame)
        finally:
            bridge.leave(connection)
            log.info("app_disconnected", uid=uid)


async def _judge(bridge: Bridge, websocket: WebSocket, uid: str) -> Principal | None:
    """Who connects; None when the connection was refused: with a close code, which a browser's app can read."""
    try:
        return await _who(bridge, websocket, uid)
    except Refusal as refusal:
        if refusal.status == TOO_MANY:
            await websocket.send_denial_response(denial(refusal))
        else:
            await refuse(websocket, CloseCode.UNAUTHORISED, refusal.detail)
    except StoreError:
        await refuse(websocket, CloseCode.DRAIN, "the credential cannot be checked")
    return None


async def _who(bridge: Bridge, websocket: WebSocket, uid: str) -> Principal:
    scope = websocket.scope
    address = address_of(scope)
    bridge.doors.count(address)
    tokens = [name for name in scope["subprotocols"] if name != SUBPROTOCOL_V2]
    if tokens and bridge.doors.required:
        principal = await bridge.doors.check(address, tokens[0])
    else:
        principal = await bridge.doors.who(address, scope["headers"], scope["query_string"])
    if principal.kind not in {"open", "app"}:
        raise Refusal(FORBIDDEN, "a token is needed, see `sarvis token app`")
    if not principal.speaks_for(uid):
        raise Refusal(FORBIDDEN, "this token is not for this uid")
    return principal


@contextmanager
def _until_it_expires(bridge: Bridge, connection: AppConnection) -> Iterator[None]:
    """Inside this block the connection is closed when its token expires."""
    expires_at = connection.principal.expires_at
    if expires_at is None:
        yield
        return
    left_s = max(expires_at - bridge.clock.utc_now().timestamp(), 0.0)
    timer = asyncio.get_running_loop().call_later(
        left_s, connection.close, CloseCode.UNAUTHORISED, "the token has expired"
    )
    try:
        yield
    finally:
        timer.cancel()


async def _obey(bridge: Bridge, connection: AppConnection, frame: str | bytes) -> None:
    now = iso(bridge.clock.utc_now())
    match parse(connection.mode, frame):
        case Heartbeat(seq):
            expires_in_s = await bridge.sessions.heartbeat(connection.uid)
            if expires_in_s is not None:
                connection.send(connection.frames.heartbeat_ack(now, seq=seq, expires_in_s=expires_in_s))
        case WakeAck(wake_id):
            bridge.relay.acked(connection.uid, wake_id)
        case LoginRequest(device_id):
            await _log_in(bridge, connection, device_id, now)
        case LogoutRequest():
            await bridge.sessions.logout(connection.uid, "app")
        case Refused(code, message):
            _complain(connection, now, code, message)


async def _log_in(bridge: Bridge, connection: AppConnection, device_id: str, now: str) -> None:
    if device_id == LEGACY_DEVICE:
        _complain(connection, now, "bad_field", f"device_id: {LEGACY_DEVICE} is reserved")
        return
    if not connection.principal.may_log_in_on(device_id):
        _complain(connection, now, "not_allowed", "device_id: this token is not for this device")
        return
    try:
        session = await bridge.sessions.login(connection.uid, device_id, "app")
    except NoSuchDeviceError as error:
        _complain(connection, now, "no_such_device", f"device_id: {error}")
        return
    except DeviceBehindError as error:
        _complain(connection, now, "device_behind", f"device_id: {error}", temporary=True)
        return
    connection.send(connection.frames.login_ack(now, describe(session)))


def _complain(connection: AppConnection, now: str, code: str, message: str, *, temporary: bool = False) -> None:
    frame = connection.frames.error(now, code=code, message=message, temporary=temporary)
    if frame is not None:
        connection.send(frame)


def _describe(missed: Missed) -> dict[str, str]:
    return {
        "id": missed.id,
        "command": missed.command,
        "device_id": missed.device_id,
        "timestamp": missed.timestamp,
    }
