"""Who is calling, and which doors are theirs. Decides, reads nothing."""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qs

from contract.forwarded import Headers

Kind = Literal["open", "app", "caller", "operator", "network"]
Role = Literal["caller", "operator"]

USERS: frozenset[Kind] = frozenset({"open", "caller", "network", "app"})
CALLERS: frozenset[Kind] = frozenset({"open", "caller", "network"})
OPERATORS: frozenset[Kind] = frozenset({"open", "operator"})

DOORS: Mapping[str, frozenset[Kind]] = {
    "/api/voice-command/trigger": CALLERS,
    "/api/auth/login": USERS,
    "/api/auth/logout": USERS,
    "/api/app/heartbeat": USERS,
    "/api/push/key": USERS,
    "/api/push/subscribe": USERS,
    "/api/push/unsubscribe": USERS,
    "/api/sessions/logout": OPERATORS,
    "/api/devices/remove": OPERATORS,
    "/metrics": OPERATORS,
    "/docs": OPERATORS,
    "/openapi.json": OPERATORS,
}
"""Every endpoint but the free ones, and who may use it."""

MAX_FIELDS = 100
_TOKEN = re.compile(r"e[w-z0-9_-][A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*")
"""Three parts in base64url, of which the first begins as a JSON object does."""
_KEY_BEGINS = "sarvis_"
_FREE = frozenset({"/livez"})
_FREE_BELOW = "/app"
"""The page: files without secrets, which must be there before anybody can log in."""
BARE = frozenset({"/readyz"})
"""Answers everybody, and says more to whom it knows."""


def is_free(path: str) -> bool:
    """Does this path answer everybody?"""
    return path in _FREE or path == _FREE_BELOW or path.startswith(f"{_FREE_BELOW}/")


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody whose credential was checked.

    Attributes:
        name: for rates and logs; no secret.
        uid: the user whose app this is; None for everybody else.
        expires_at: Unix time.
        key_id: what signed the token.
        devices: the only devices on which this app may log in; None for any.
    """

    kind: Kind
    name: str = ""
    uid: str | None = None
    expires_at: float | None = None
    key_id: str | None = None
    devices: frozenset[str] | None = None

    def speaks_for(self, uid: str) -> bool:
        """May this one act for the user?"""
        return self.kind != "app" or self.uid == uid

    def may_log_in_on(self, device_id: str) -> bool:
        """May this one open a session on the device?"""
        return self.devices is None or device_id in self.devices


EVERYBODY = Principal("open", "everybody")


def may_enter(principal: Principal, path: str) -> bool:
    """Whether a known caller may use an endpoint; one that does not exist answers 404 to whoever is known."""
    return path not in DOORS or principal.kind in DOORS[path]


def credential_of(headers: Headers, query: bytes) -> str | None:
    """The first of `credentials_of`; None where there is none."""
    return next(iter(credentials_of(headers, query)), None)


def credentials_of(headers: Headers, query: bytes) -> list[str]:
    """All that stands where a credential may, in the order in which it counts.

    Authorization (Bearer, or the password of Basic) and X-API-Key as they come, then `?token=` and `?key=`. An unknown
    scheme or a damaged one is an empty one: something was shown, and it lets nobody in.
    """
    shown = []
    for name, value in headers:
        if name == b"authorization":
            shown.append(_authorization(value.decode("latin-1")))
        elif name == b"x-api-key":
            shown.append(value.decode("latin-1").strip())
    return [*shown, *_asked(query.decode("latin-1"))] if query else shown


def is_like_a_token(text: str) -> bool:
    """Has it the form of a JWT? Proxies and libraries put other things where credentials stand."""
    return _TOKEN.fullmatch(text) is not None


def is_like_a_credential(text: str) -> bool:
    """Has it the form of a JWT or of an API key?"""
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
