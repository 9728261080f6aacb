"""Pushes to sleeping phones: who may be pushed to, who is subscribed, what an answer means. Decides, sends nothing."""

import base64
import binascii
import hashlib
import json
import re
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey

from bridge.rows import PushSubscription, Unsubscribed

SUBSCRIPTIONS_PER_USER = 8
USERS = 10_000
MAX_ENDPOINT = 2048
AUTH_BYTES = 16
UNCOMPRESSED = b"\x04"
TOPIC_CHARACTERS = 32
RETRY_AFTER_S = 1.0
GONE = frozenset({404, 410})
NOT_NOW = frozenset({406, 408, 425, 429})
"""406 is how Windows (WNS) says 429."""
SERVER_FAULT = 500
WINDOWS = ".notify.windows.com"

Verdict = Literal["accepted", "gone", "again", "refused"]

_ENDPOINT = re.compile(
    r"(?P<origin>(?P<scheme>https?)://(?P<host>[a-z0-9.-]+)(?P<port>:[0-9]{1,5})?)"
    r"(?P<path>/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)"
)
"""Far less than an address may be: what every reader of addresses takes for the same host. No user, no fragment."""


def check_public_key(text: str) -> str:
    """A phone's public key, uncompressed P-256 in base64url; returned without padding. Raises ValueError."""
    point = _decoded(text)
    if not _is_uncompressed_point(point):
        raise ValueError("must be an uncompressed point on P-256 in base64url, as the browser gives it")
    return _encoded(point)


def check_secret(text: str) -> str:
    """The secret of a subscription, 16 bytes in base64url; returned without padding. Raises ValueError."""
    secret = _decoded(text)
    if len(secret) != AUTH_BYTES:
        raise ValueError(f"must be {AUTH_BYTES} bytes in base64url, as the browser gives it")
    return _encoded(secret)


def problem_with(endpoint: str, services: Iterable[str]) -> str | None:
    """Why nothing may be posted to this address; None when it belongs to one of the push services.

    A service is a host (https on its port, also all names below it) or one whole origin, as http://127.0.0.1:8080.
    """
    parts = _ENDPOINT.fullmatch(endpoint)
    if parts is None or len(endpoint) > MAX_ENDPOINT:
        return "must be an address as the browser gives it, https://HOST/PATH"
    services = frozenset(services)
    if parts["origin"] in services:
        return None
    if parts["scheme"] != "https" or parts["port"] is not None:
        return "must begin with https:// and name no port"
    names = parts["host"].split(".")
    if not any(".".join(names[first:]) in services for first in range(len(names))):
        return "is at no push service that this bridge knows: see push.services"
    return None


def origin_of(endpoint: str) -> str:
    """Scheme, host and port of an endpoint that was let in: whom a signature is for, and no secret."""
    parts = _ENDPOINT.fullmatch(endpoint)
    return "" if parts is None else parts["origin"]


def payload(wake_id: str) -> bytes:
    """All that a push says, encrypted for the phone."""
    return json.dumps({"id": wake_id}, separators=(",", ":")).encode()


def headers(wake_id: str, left_s: float, service: str = "") -> dict[str, str]:
    """What a push service is told beside it. The topic lets a repetition replace what was not delivered yet."""
    topic = base64.urlsafe_b64encode(hashlib.sha256(wake_id.encode()).digest()).decode()[:TOPIC_CHARACTERS]
    # Windows refuses a TTL that does not fit its own header for the same thing.
    more = {"x-wns-cache-policy": "cache"} if service.endswith(WINDOWS) else {}
    return {
        "accept-encoding": "identity",
        "content-encoding": "aes128gcm",
        "content-type": "application/octet-stream",
        "ttl": str(max(1, int(left_s))),
        "urgency": "high",
        "topic": topic,
        **more,
    }


def verdict(status: int, windows: str | None = None) -> Verdict:
    """What the answer of a push service means; `windows` is its header X-WNS-Status, if it has one."""
    told = (windows or "").strip().lower()
    if 200 <= status < 300:  # noqa: PLR2004 - of HTTP
        if told.endswith("throttled"):
            return "again"
        return "refused" if told == "dropped" else "accepted"
    if status in GONE:
        return "gone"
    return "again" if status in NOT_NOW or status >= SERVER_FAULT else "refused"


def pause_s(retry_after: str | None, *, date: str | None = None, now: datetime | None = None) -> float:
    """How long to wait before the second try.

    Args:
        retry_after: the service's header, seconds or a date.
        date: when the service says that it answered.
        now: the bridge's own time, which counts without `date`.
    """
    text = (retry_after or "").strip()
    if re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", text):
        return max(RETRY_AFTER_S, float(text))
    until = date_of(text)
    answered = date_of(date) or now
    if until is None or answered is None:
        return RETRY_AFTER_S
    return max(RETRY_AFTER_S, (until - answered).total_seconds())


def date_of(header: str | None) -> datetime | None:
    """A date as HTTP writes it; None when it is none."""
    try:
        date = parsedate_to_datetime(header or "")
    except (ValueError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


class Subscribers:
    """Who is subscribed, as the ledger has it: at most 8 phones of one user, and 10,000 users; the oldest gives way."""

    def __init__(self) -> None:
        self._users: OrderedDict[str, list[PushSubscription]] = OrderedDict()
        self._owners: dict[str, str] = {}

    def __len__(self) -> int:
        """How many subscriptions there are."""
        return len(self._owners)

    def of(self, uid: str) -> Sequence[PushSubscription]:
        """The user's subscriptions, oldest first."""
        return tuple(self._users.get(uid, ()))

    def owner(self, endpoint: str) -> str | None:
        """Whose phone this is."""
        return self._owners.get(endpoint)

    def changes(self, new: PushSubscription) -> list[PushSubscription | Unsubscribed]:
        """What is to be written so that this one is subscribed."""
        mine = [one for one in self._users.get(new.uid, ()) if one.endpoint != new.endpoint]
        too_many = max(0, len(mine) + 1 - SUBSCRIPTIONS_PER_USER)
        gone = [Unsubscribed(one.uid, one.endpoint) for one in mine[:too_many]]
        if new.uid not in self._users and len(self._users) >= USERS:
            gone.append(Unsubscribed(next(iter(self._users))))
        return [*gone, new]

    def apply(self, changes: Iterable[PushSubscription | Unsubscribed]) -> None:
        """These are written."""
        for change in changes:
            if isinstance(change, Unsubscribed):
                self._remove(change)
            else:
                self._add(change)

    def _add(self, new: PushSubscription) -> None:
        owner = self._owners.get(new.endpoint)
        if owner is not None:
            self._remove(Unsubscribed(owner, new.endpoint))
        self._users.setdefault(new.uid, []).append(new)
        self._users.move_to_end(new.uid)
        self._owners[new.endpoint] = new.uid

    def _remove(self, gone: Unsubscribed) -> None:
        mine = self._users.get(gone.uid, [])
        for one in [one for one in mine if gone.is_of(one)]:
            mine.remove(one)
            del self._owners[one.endpoint]
        if not mine:
            self._users.pop(gone.uid, None)


def _is_uncompressed_point(point: bytes) -> bool:
    try:
        EllipticCurvePublicKey.from_encoded_point(SECP256R1(), point)
    except ValueError:
        return False
    return point.startswith(UNCOMPRESSED)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return b""


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
