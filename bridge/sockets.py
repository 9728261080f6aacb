"""The endpoint `/ws/app/{connection_uuid}/`: what a request of an app makes the bridge do."""

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
from bridge.connection import AppConnection, refuse
from bridge.rows import Missed
from bridge.service import Bridge
from bridge.sessions import describe
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
    connection = AppConnection(websocket, uid, mode)
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

    async def on_frame(frame: str | bytes) -> None:
        try:
            await _obey(bridge, connection, frame)
        except StoreError:
            # Not stored, so not answered: the documented protocol has no word for it.
            _complain(connection, iso(bridge.clock.utc_now()), "not_stored", "try again", temporary=True)

    try:
        await connection.serve(on_frame)
    finally:
        bridge.leave(connection)
        log.info("app_disconnected", uid=uid)


async def _obey(bridge: Bridge, connection: AppConnection, frame: str | bytes) -> None:
    now = iso(bridge.clock.utc_now())
    match parse(connection.mode, frame):
        case Heartbeat(seq):
            expires_in_s = await bridge.sessions.heartbeat(connection.uid)
            if expires_in_s is not None:
                connection.send(connection.frames.heartbeat_ack(now, seq=seq, expires_in_s=expires_in_s))
        case WakeAck(wake_id):
            bridge.relay.acked(connection.uid, wake_id)
        case LoginRequest(device_id) if device_id != LEGACY_DEVICE:
            session = await bridge.sessions.login(connection.uid, device_id, "app")
            connection.send(connection.frames.login_ack(now, describe(session)))
        case LoginRequest():
            _complain(connection, now, "bad_field", f"device_id: {LEGACY_DEVICE} is reserved")
        case LogoutRequest():
            await bridge.sessions.logout(connection.uid, "app")
        case Refused(code, message):
            _complain(connection, now, code, message)


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
