"""Accepts a handshake at once if it needs neither the ledger nor a refusal.

All other handshakes go to ASGI, which has the texts of all refusals.
"""

import binascii
from dataclasses import dataclass
from urllib.parse import unquote

from starlette.datastructures import QueryParams
from starlette.types import Scope
from websockets.utils import accept_key

from bridge.auth.authenticator import Refusal, Verdict
from bridge.auth.middleware import address_of
from bridge.auth.principals import Principal
from bridge.auth.proxies import Proxies
from bridge.service import Bridge
from bridge.websocket.asgi.endpoint import MAX_CLIENT_CHARACTERS
from contract.app_socket import SUBPROTOCOL_V2, Mode
from contract.names import check_uid
from infra.web.middleware import Origins

PREFIX = "/ws/app/"
VERSION = b"13"
KEY_BYTES, KEY_CHARACTERS = 16, 24
MAX_HEADERS, MAX_HEADER_BYTES = 100, 8000
"""Somewhat less than ASGI accepts."""


@dataclass(frozen=True, slots=True)
class AcceptedHandshake:
    """An app that may connect.

    Attributes:
    client: the name by which it replaces its older socket.
    handshake: the answer to its request.
    address: of its client.
    """

    uid: str
    mode: Mode
    principal: Principal
    client: str | None
    handshake: bytes
    address: str = ""


class HandshakeCheck:
    """Checks handshakes as ASGI does, but only accepts."""

    def __init__(self, bridge: Bridge, origins: Origins) -> None:
        self._bridge = bridge
        self._origins = origins
        self._proxies = Proxies.of(bridge.settings)

    def admit(self, scope: Scope) -> AcceptedHandshake | None:
        """None: ASGI must decide, with the `verdict` that is then in `scope`, if something was found.

        `scope` is that of ASGI, with `raw_path` and without `path`; it is changed.
        """
        uid = _uid(scope["raw_path"])
        asked = _asked(scope["headers"])
        if uid is None or asked is None or self._bridge.closing or not self._bridge.has_room:
            return None
        accept, subprotocols = asked
        query = scope["query_string"]
        client = QueryParams(query).get("client") if query else None
        if client is not None and not 1 <= len(client) <= MAX_CLIENT_CHARACTERS:
            return None
        principal = self._who(scope, subprotocols)
        if principal is None or not principal.speaks_for(uid):
            return None
        mode: Mode = "v2" if SUBPROTOCOL_V2 in subprotocols else "legacy"
        return AcceptedHandshake(uid, mode, principal, client, _handshake(accept, mode), address_of(scope) or "")

    def _who(self, scope: Scope, subprotocols: list[str]) -> Principal | None:
        self._proxies.take_over(scope)
        if self._origins.refusal(scope) is not None:
            return None
        authenticator = self._bridge.authenticator
        try:
            authenticator.count(address_of(scope))
            principal = authenticator.authenticate_app_at_once(scope["headers"], scope["query_string"], subprotocols)
        except Refusal as refusal:
            scope["verdict"] = Verdict(refusal)
            return None
        scope["verdict"] = Verdict(principal=principal)
        return principal


def _uid(raw_path: bytes) -> str | None:
    try:
        path = raw_path.decode("ascii")
        if not path.startswith(PREFIX):
            return None
        return check_uid(unquote(path[len(PREFIX) :].removesuffix("/")))
    except ValueError:
        return None


def _asked(headers: list[tuple[bytes, bytes]]) -> tuple[str, list[str]] | None:
    """The answer to the key, and the offered subprotocols; None if a header is missing, repeated or too long."""
    if len(headers) > MAX_HEADERS:
        return None
    keys, versions, subprotocols = [], [], []
    for name, value in headers:
        if len(value) > MAX_HEADER_BYTES:
            return None
        if name == b"sec-websocket-key":
            keys.append(value)
        elif name == b"sec-websocket-version":
            versions.append(value)
        elif name == b"sec-websocket-protocol":
            subprotocols += [offered.strip() for offered in value.decode("ascii").split(",")]
    if versions != [VERSION] or len(keys) != 1 or len(keys[0]) != KEY_CHARACTERS:
        return None
    try:
        if len(binascii.a2b_base64(keys[0], strict_mode=True)) != KEY_BYTES:
            return None
    except binascii.Error:
        return None
    return accept_key(keys[0].decode("ascii")), subprotocols


def _handshake(accept: str, mode: Mode) -> bytes:
    chosen = f"Sec-WebSocket-Protocol: {SUBPROTOCOL_V2}\r\n" if mode == "v2" else ""
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n{chosen}\r\n"
    ).encode()
