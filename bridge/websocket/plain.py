"""The endpoint `/ws/app/{connection_uuid}/` by ASGI; it also says no to whom the fast way does not take."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.websockets import WebSocket, WebSocketDisconnect

from bridge.app_protocol import SUBPROTOCOL_V2, CloseCode, Mode
from bridge.auth.doorkeeper import address_of, denial
from bridge.auth.doors import FORBIDDEN, TOO_MANY, Refusal
from bridge.auth.principals import Principal
from bridge.auth.rates import Budget, amount_of
from bridge.service import Bridge
from bridge.store import StoreError
from bridge.websocket.connection import AppConnection
from bridge.websocket.plain_connection import PlainConnection, refuse
from bridge.websocket.requests import established, obey
from contract.messages import check_uid
from contract.telemetry import get_logger

MAX_CLIENT_CHARACTERS = 64

log = get_logger("websocket")


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
    connection = PlainConnection(websocket, uid, mode, principal)
    returns = bridge.returns(uid, mode, client)
    if returns is not None:
        connection.send(established(bridge, connection, []))
        bridge.join_again(connection, client, returns)
    else:
        try:
            sessions = await bridge.sessions.connected(uid)
        except StoreError:
            await refuse(websocket, CloseCode.DRAIN, "the ledger cannot be written")
            return
        connection.send(established(bridge, connection, sessions))
        bridge.join(connection, client)
    log.debug("app_connected", uid=uid, mode=mode)

    budget = Budget(*amount_of(bridge.settings.limits.frames))

    async def on_frame(frame: str | bytes) -> None:
        if not budget.spend(bridge.clock.monotonic()):
            connection.close(CloseCode.RATE, "too many messages")
            return
        asked = obey(bridge, connection, frame)
        if asked is not None:
            await asked

    with _until_it_expires(bridge, connection):
        try:
            await connection.serve(on_frame)
        finally:
            bridge.leave(connection)
            log.debug("app_disconnected", uid=uid)


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
    principal = await bridge.doors.who(address, scope["headers"], scope["query_string"], scope["subprotocols"])
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
