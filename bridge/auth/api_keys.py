"""Keys of HTTP callers and operators: `sarvis_ID_SECRET`; the ledger keeps the hash of the secret alone."""

import hashlib
import hmac
import re
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

from bridge.auth.principals import Principal
from bridge.rows import ApiKey
from contract.clock import Clock

FRESH_S = 5.0
"""So long after a key was revoked or added it may take until that counts."""

MAX_CACHED = 10_000
_FORM = re.compile(r"sarvis_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")


class Keys(Protocol):
    """Where keys are kept."""

    async def api_key(self, key_id: str) -> ApiKey | None:
        """The key of this id; raises StoreError."""
        ...


@dataclass(frozen=True, slots=True)
class Written:
    """A new key: the row for the ledger, and the text that is shown once."""

    row: ApiKey
    text: str


def make(name: str, role: str, created_at: str, expires_at: float | None) -> Written:
    """A new key of 256 random bits, for which a fast hash is enough."""
    key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    return Written(ApiKey(key_id, _hash(secret), role, name, created_at, expires_at), f"sarvis_{key_id}_{secret}")


def is_one(credential: str) -> bool:
    """Has it the form of a key?"""
    return _FORM.fullmatch(credential) is not None


class ApiKeys:
    """Checks keys; what the ledger says of one counts for some seconds."""

    def __init__(self, keys: Keys, clock: Clock) -> None:
        self._keys = keys
        self._clock = clock
        self._cache: OrderedDict[str, tuple[ApiKey, float]] = OrderedDict()

    def knows(self, credential: str) -> bool:
        """Can `principal` answer without asking the ledger?"""
        form = _FORM.fullmatch(credential)
        return form is not None and self._fresh(form[1]) is not None

    async def principal(self, credential: str) -> Principal | None:
        """Whose key it is; None for a wrong, revoked or expired one. Raises StoreError."""
        form = _FORM.fullmatch(credential)
        if form is None:
            return None
        key_id, secret = form.groups()
        key = self._fresh(key_id) or await self._ask(key_id)
        if key is None or not hmac.compare_digest(key.hash, _hash(secret)):
            return None
        if key.expires_at is not None and self._clock.utc_now().timestamp() >= key.expires_at:
            return None
        return Principal("operator" if key.role == "operator" else "caller", key_id)

    def _fresh(self, key_id: str) -> ApiKey | None:
        found = self._cache.get(key_id)
        if found is None or self._clock.monotonic() - found[1] > FRESH_S:
            return None
        return found[0]

    async def _ask(self, key_id: str) -> ApiKey | None:
        key = await self._keys.api_key(key_id)
        if key is None:
            self._cache.pop(key_id, None)
            return None
        self._cache[key_id] = (key, self._clock.monotonic())
        self._cache.move_to_end(key_id)
        if len(self._cache) > MAX_CACHED:
            self._cache.popitem(last=False)
        return key


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
