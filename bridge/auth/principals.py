"""Principals, and which endpoints each may use. Decides, reads nothing."""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qs

from infra.web.forwarded import Headers

Kind = Literal["open", "app", "caller", "operator", "viewer", "network", "device"]
Role = Literal["caller", "operator", "viewer"]

USERS: frozenset[Kind] = frozenset({"open", "caller", "network", "app"})
CALLERS: frozenset[Kind] = frozenset({"open", "caller", "network"})
OPERATORS: frozenset[Kind] = frozenset({"open", "operator"})
VIEWERS: frozenset[Kind] = OPERATORS | {"viewer"}
"""What only reads, for monitoring and support staff."""

DEVICES: frozenset[Kind] = frozenset({"open", "device"})
"""Who has a ticket for a download, see bridge/auth/tickets.py: it opens nothing else."""
MODELS = "/api/models/"
MODEL_FILE = f"{MODELS}{{sha256}}"

PERMISSIONS: Mapping[str, frozenset[Kind]] = {
    "/api/voice-command/trigger": CALLERS,
    "/api/auth/login": USERS,
    "/api/auth/logout": USERS,
    "/api/app/heartbeat": USERS,
    "/api/push/key": USERS,
    "/api/push/subscribe": USERS,
    "/api/push/unsubscribe": USERS,
    "/api/sessions/logout": OPERATORS,
    "/api/devices/remove": OPERATORS,
    "/api/bridge/drain": OPERATORS,
    "/api/console/link": OPERATORS,
    "/api/users/forget": OPERATORS,
    "/api/ops/devices": VIEWERS,
    "/api/ops/users": VIEWERS,
    "/api/ops/logouts": VIEWERS,
    "/api/ops/wakes": VIEWERS,
    MODEL_FILE: DEVICES,
    "/metrics": VIEWERS,
    "/docs": VIEWERS,
    "/openapi.json": VIEWERS,
    "/asyncapi.json": VIEWERS,
}
"""Every endpoint except the public ones, and its permitted kinds of principal."""

MAX_FIELDS = 100
_TOKEN = re.compile(r"e[w-z0-9_-][A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*")
"""Three parts in base64url, the first of which begins like a JSON object."""
_KEY_BEGINS = "sarvis_"
_FREE = frozenset({"/livez"})
_FREE_BELOW = ("/app", "/console")
"""The page: files without secrets, which must be available before a log-in. The console: `bridge/console/guard.py` lets
in by its own cookie.
"""
BARE = frozenset({"/readyz"})
"""Public, but callers with a credential get more details."""


def is_free(path: str) -> bool:
    """Whether a request to this path is admitted without a credential in it."""
    return path in _FREE or any(path == below or path.startswith(f"{below}/") for below in _FREE_BELOW)


@dataclass(frozen=True, slots=True)
class Principal:
    """The owner of a checked credential.

    Attributes:
    name: for rate limits and logs; not a secret.
    uid: the user whose app this is; None for other principals.
    expires_at: Unix time.
    issued_at: Unix time; None if the token does not have it.
    key_id: the key that signed the token.
    devices: the only devices on which this app may log in; None for any.
    label: the name that an operator gave to its API key.
    """

    kind: Kind
    name: str = ""
    uid: str | None = None
    expires_at: float | None = None
    issued_at: float | None = None
    key_id: str | None = None
    devices: frozenset[str] | None = None
    label: str = ""

    @property
    def actor(self) -> str:
        """How the audit names it, see `bridge.storage.records.By`."""
        if self.kind == "app":
            return f"app:{self.uid}"
        if self.kind == "device":
            return f"device:{self.name}"
        if self.kind in {"caller", "operator", "viewer"}:
            return f"key:{self.name}:{self.label}"
        return self.kind

    def speaks_for(self, uid: str) -> bool:
        """Whether the principal may act for the user."""
        return self.kind != "app" or self.uid == uid

    def may_log_in_on(self, device_id: str) -> bool:
        """Whether the principal may open a session on the device."""
        return self.devices is None or device_id in self.devices


EVERYBODY = Principal("open", "everybody")


def may_enter(principal: Principal, path: str) -> bool:
    """Whether an authenticated caller may use an endpoint; unknown endpoints are allowed and answer 404."""
    row = MODEL_FILE if path.startswith(MODELS) else path
    return principal.kind in PERMISSIONS[row] if row in PERMISSIONS else principal.kind != "device"


def credentials_of(headers: Headers, query: bytes) -> list[str]:
    """All texts where a credential may be, in the order in which they are tried.

    Authorization (Bearer, or the password of Basic) and X-API-Key in their order, then `?token=` and `?key=`. An
    unknown scheme or a malformed header counts as an empty credential: one was sent, and it is invalid.
    """
    shown = []
    for name, value in headers:
        if name == b"authorization":
            shown.append(_authorization(value.decode("latin-1")))
        elif name == b"x-api-key":
            shown.append(value.decode("latin-1").strip())
    return [*shown, *_asked(query.decode("latin-1"))] if query else shown


def is_like_a_token(text: str) -> bool:
    """Whether a text has the form of a JWT. Proxies and libraries put other texts where credentials are expected."""
    return _TOKEN.fullmatch(text) is not None


def is_like_a_credential(text: str) -> bool:
    """Whether a text has the form of a JWT or of an API key."""
    return text.startswith(_KEY_BEGINS) or is_like_a_token(text)


def _asked(query: str) -> list[str]:
    try:
        given = parse_qs(query, max_num_fields=MAX_FIELDS)
    except ValueError:
        return [""]
    return [text for name in ("token", "key") for text in given.get(name, ())]


def _authorization(value: str) -> str:
    scheme, _, rest = value.partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(rest.strip(), validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return ""
