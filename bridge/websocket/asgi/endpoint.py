"""The endpoint `/ws/app/{connection_uuid}/` by ASGI; it also answers what the stream refuses."""

import asyncio
import math
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.responses import JSONResponse
from starlette.types import Scope
from starlette.websockets import WebSocket, WebSocketDisconnect

from bridge.apps.connection import AppConnection
from bridge.auth.authenticator import FORBIDDEN, TOO_MANY, Refusal, Verdict
from bridge.auth.middleware import address_of, denial
from bridge.auth.principals import Principal
from bridge.auth.rate_limits import Budget, amount_of
from bridge.gate import Refused
from bridge.service import Bridge
from bridge.storage.store import StoreError
from bridge.websocket.asgi.connection import AsgiConnection, refuse
from bridge.websocket.commands import NOTHING, established, obey
from contract.app_socket import SUBPROTOCOL_V2, CloseCode, Mode
from contract.names import check_uid
from infra.telemetry import get_logger

MAX_CLIENT_CHARACTERS = 64
FULL = "no room for more apps now, try again"
VERDICT = "sarvis.verdict"
"""Key of the scope for the result of the stream's check."""

log = get_logger("websocket")


async def app_socket(websocket: WebSocket) -> None:
    """Serve one app until it disconnects; never raises because of the app."""
    bridge: Bridge = websocket.app.state.bridge
    uid = websocket.path_params["connection_uuid"]
    try:
        await _serve(bridge, websocket, uid)
    except WebSocketDisconnect:
        log.debug("app_left_early", uid=uid)


async def _serve(bridge: Bridge, websocket: WebSocket, uid: str) -> None:
    if bridge.gate is not None and not bridge.has_room:
        refused = bridge.gate.refusal(bridge.clock.monotonic(), browser="origin" in websocket.headers)
        await _turn_away(websocket, refused)
        return
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
    mode: Mode = "v2" if SUBPROTOCOL_V2 in websocket.scope["subprotocols"] else "legacy"
    await websocket.accept(SUBPROTOCOL_V2 if mode == "v2" else None)
    connection = AsgiConnection(websocket, uid, mode, principal, address_of(websocket.scope) or "")
    returns = bridge.returns(uid, mode, client)
    if returns is not None:
        connection.send(established(bridge, connection, NOTHING))
        bridge.join_again(connection, client, returns)
    else:
        try:
            with _counted(bridge):
                user = await bridge.sessions.connected(uid)
        except StoreError:
            await refuse(websocket, CloseCode.DRAIN, "the ledger cannot be written")
            return
        connection.send(established(bridge, connection, user))
        bridge.join(connection, client, user.turn)
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


async def _turn_away(websocket: WebSocket, refused: Refused) -> None:
    """For a browser the wait is in the reason of a close: it hides the status and the headers of a refusal."""
    if refused.says_so:
        await refuse(websocket, CloseCode.DRAIN, FULL, math.ceil(refused.retry_s * 1000))
        return
    headers = {"retry-after": str(math.ceil(refused.retry_s)), "connection": "close"}
    await websocket.send_denial_response(JSONResponse({"detail": FULL}, 503, headers))


@contextmanager
def _counted(bridge: Bridge) -> Iterator[None]:
    """Inside this block an app waits for the ledger."""
    if bridge.gate is not None:
        bridge.gate.came(bridge.clock.monotonic())
    try:
        yield
    finally:
        if bridge.gate is not None:
            bridge.gate.answered(bridge.clock.monotonic())


async def _judge(bridge: Bridge, websocket: WebSocket, uid: str) -> Principal | None:
    """The principal of the connection; None if it was refused, with a close code that a browser's app can read."""
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
    principal = _found_out(bridge, scope)
    if principal is None:
        principal = await bridge.authenticator.authenticate(
            address_of(scope), scope["headers"], scope["query_string"], scope["subprotocols"]
        )
    if principal.kind not in {"open", "app"}:
        raise Refusal(FORBIDDEN, "a token is needed, see `sarvis token app`")
    if not principal.speaks_for(uid):
        raise Refusal(FORBIDDEN, "this token is not for this uid")
    return principal


def _found_out(bridge: Bridge, scope: Scope) -> Principal | None:
    """The principal, if the stream found it; otherwise counts the connection for the address. Raises Refusal."""
    verdict: Verdict | None = scope.get("extensions", {}).get(VERDICT, {}).get("verdict")
    if verdict is None:
        bridge.authenticator.count(address_of(scope))
        return None
    if verdict.refusal is not None:
        raise verdict.refusal
    return verdict.principal


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
