"""The rules of pushes: allowed services, subscribed phones, the meaning of an answer. Decides, sends nothing."""

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey

from bridge.storage.records import PushSubscription, Unsubscribed

SUBSCRIPTIONS_PER_USER = 8
MAX_ENDPOINT = 2048
AUTH_BYTES = 16
UNCOMPRESSED = b"\x04"
TOPIC_CHARACTERS = 32
RETRY_AFTER_S = 1.0
GONE = frozenset({404, 410})
NOT_NOW = frozenset({406, 408, 425, 429})
"""406 is Windows' (WNS) form of 429."""
SERVER_FAULT = 500
WINDOWS = ".notify.windows.com"

Verdict = Literal["accepted", "gone", "again", "refused"]

_ENDPOINT = re.compile(
    r"(?P<origin>(?P<scheme>https?)://(?P<host>[a-z0-9.-]+)(?P<port>:[0-9]{1,5})?)"
    r"(?P<path>/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)"
)
"""Much stricter than URLs in general: only addresses in which every parser sees the same host. No user, no fragment."""


def check_public_key(text: str) -> str:
    """Check a phone's public key, uncompressed P-256 in base64url; returned without padding. Raises ValueError."""
    point = _decoded(text)
    if not _is_uncompressed_point(point):
        raise ValueError("must be an uncompressed point on P-256 in base64url, as the browser gives it")
    return _encoded(point)


def check_secret(text: str) -> str:
    """Check the secret of a subscription, 16 bytes in base64url; returned without padding. Raises ValueError."""
    secret = _decoded(text)
    if len(secret) != AUTH_BYTES:
        raise ValueError(f"must be {AUTH_BYTES} bytes in base64url, as the browser gives it")
    return _encoded(secret)


def problem_with(endpoint: str, services: Iterable[str]) -> str | None:
    """Why no push may be posted to this address; None if it belongs to one of the push services.

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
        return "is not at a push service that this bridge allows: see push.services"
    return None


def origin_of(endpoint: str) -> str:
    """Scheme, host and port of an allowed endpoint: the audience of a signature; not a secret."""
    parts = _ENDPOINT.fullmatch(endpoint)
    return "" if parts is None else parts["origin"]


def payload(wake_id: str) -> bytes:
    """The content of a push, to be encrypted for the phone."""
    return json.dumps({"id": wake_id}, separators=(",", ":")).encode()


def headers(wake_id: str, left_s: float, service: str = "") -> dict[str, str]:
    """The headers for a push service. The topic makes a repetition replace a push that was not delivered yet."""
    topic = base64.urlsafe_b64encode(hashlib.sha256(wake_id.encode()).digest()).decode()[:TOPIC_CHARACTERS]
    # Windows refuses a TTL that contradicts its own header for the same value.
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
    """The meaning of a push service's answer; `windows` is its header X-WNS-Status, if present."""
    told = (windows or "").strip().lower()
    if 200 <= status < 300:  # noqa: PLR2004 - of HTTP
        if told.endswith("throttled"):
            return "again"
        return "refused" if told == "dropped" else "accepted"
    if status in GONE:
        return "gone"
    return "again" if status in NOT_NOW or status >= SERVER_FAULT else "refused"


def pause_s(retry_after: str | None, *, date: str | None = None, now: datetime | None = None) -> float:
    """How long to wait before the second attempt.

    Args:
    retry_after: the service's header, seconds or a date.
    date: when the service answered, by its clock.
    now: the bridge's time, used without `date`.
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
    """A date in HTTP's format; None if it is malformed."""
    try:
        date = parsedate_to_datetime(header or "")
    except (ValueError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def changes_for(new: PushSubscription, mine: Iterable[PushSubscription]) -> list[PushSubscription | Unsubscribed]:
    """The rows to write for a new subscription; `mine` are those that its user has, oldest first: they give way."""
    others = [one for one in mine if one.endpoint != new.endpoint]
    too_many = max(0, len(others) + 1 - SUBSCRIPTIONS_PER_USER)
    return [*(Unsubscribed(one.uid, one.endpoint) for one in others[:too_many]), new]


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
