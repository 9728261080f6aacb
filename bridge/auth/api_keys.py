"""API keys of callers and operators: `sarvis_ID_SECRET`; the ledger keeps a hash of the secret."""

import asyncio
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from bridge.auth.principals import Kind, Principal
from bridge.auth.rate_limits import Budget
from bridge.storage.records import ApiKey
from bridge.storage.store import StoreError
from contract.clock import Clock

FRESH_S = 5.0
"""The longest time until a revoked key is refused."""

NOTE_USE_S = 60.0

AGAIN_S = 1.0
"""The longest time until a new key is accepted while unknown ones are tried in numbers; else it is at once."""

UNKNOWN, UNKNOWN_WITHIN_S = 10, 10.0
"""Unknown keys for which the ledger is asked at once. More of them cost it one look a second."""

_KINDS: Mapping[str, Kind] = {"operator": "operator", "viewer": "viewer"}
"""By role; any other is a caller's."""

_FORM = re.compile(r"sarvis_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")


class Keys(Protocol):
    """The storage of keys."""

    async def api_keys(self) -> Sequence[ApiKey]:
        """All keys; raises StoreError."""
        ...

    async def keys_used(self, used: Mapping[str, float]) -> None:
        """See `Store.keys_used`."""
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
    """Whether a text has the form of a key."""
    return _FORM.fullmatch(credential) is not None


class ApiKeys:
    """Checks keys against a copy of the ledger's.

    The copy is renewed when it is old, and for a key that is not in it: who has just made a key uses it.
    """

    def __init__(self, keys: Keys, clock: Clock) -> None:
        self._keys = keys
        self._clock = clock
        self._copy: dict[str, ApiKey] = {}
        self._copied_at = float("-inf")
        self._one = asyncio.Lock()
        self._unknown = Budget(UNKNOWN, UNKNOWN_WITHIN_S)
        self._used: dict[str, float] = {}

    async def principal(self, credential: str) -> Principal | None:
        """The principal of a key; None for a wrong, revoked or expired one.

        Raises StoreError if the ledger cannot be read and the key is not in the copy.
        """
        form = _FORM.fullmatch(credential)
        if form is None:
            return None
        key_id, secret = form.groups()
        key = await self._find(key_id)
        if key is None or not hmac.compare_digest(key.hash, _hash(secret)):
            return None
        found = self._holder(key)
        if found is not None:
            self._used[key_id] = self._clock.utc_now().timestamp()
        return found

    async def holder(self, key_id: str) -> Principal | None:
        """The principal of a key that was checked before; None if it was revoked or has expired. Raises StoreError."""
        key = await self._find(key_id)
        return None if key is None else self._holder(key)

    def _holder(self, key: ApiKey) -> Principal | None:
        if key.expires_at is not None and self._clock.utc_now().timestamp() >= key.expires_at:
            return None
        return Principal(_KINDS.get(key.role, "caller"), key.key_id, label=key.name)

    async def note_use(self) -> None:
        """Store once a minute when each key was last used, until cancelled: a request waits for no disk."""
        while True:
            await self._clock.sleep(NOTE_USE_S)
            used, self._used = self._used, {}
            if used:
                with suppress(StoreError):  # the store has logged it; the next use is noted
                    await self._keys.keys_used(used)

    async def _find(self, key_id: str) -> ApiKey | None:
        if key_id in self._copy and self._age_s() <= FRESH_S:
            return self._copy[key_id]
        async with self._one:  # another task may renew it meanwhile
            if self._age_s() > AGAIN_S or (key_id not in self._copy and self._unknown.spend(self._clock.monotonic())):
                try:
                    self._copy = {key.key_id: key for key in await self._keys.api_keys()}
                except StoreError:
                    if key_id not in self._copy:
                        raise
                    # An unreadable ledger cannot have revoked a key either.
                self._copied_at = self._clock.monotonic()
        return self._copy.get(key_id)

    def _age_s(self) -> float:
        return self._clock.monotonic() - self._copied_at


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
