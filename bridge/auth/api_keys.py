"""Keys of HTTP callers and operators: `sarvis_ID_SECRET`; the ledger keeps the hash of the secret alone."""

import asyncio
import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from bridge.auth.principals import Principal
from bridge.rows import ApiKey
from bridge.store import StoreError
from contract.clock import Clock

FRESH_S = 5.0
"""So long after a key was revoked it may take until that counts."""

AGAIN_S = 1.0
"""The same after one was added."""

_FORM = re.compile(r"sarvis_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")


class Keys(Protocol):
    """Where keys are kept."""

    async def api_keys(self) -> Sequence[ApiKey]:
        """All of them; raises StoreError."""
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
    """Checks keys by a copy of the ledger's, which is renewed at most once a second, whoever asks how often."""

    def __init__(self, keys: Keys, clock: Clock) -> None:
        self._keys = keys
        self._clock = clock
        self._copy: dict[str, ApiKey] = {}
        self._copied_at = float("-inf")
        self._one = asyncio.Lock()

    async def principal(self, credential: str) -> Principal | None:
        """Whose key it is; None for a wrong, revoked or expired one.

        Raises StoreError when the ledger cannot be read and the key is not among those that were read before.
        """
        form = _FORM.fullmatch(credential)
        if form is None:
            return None
        key_id, secret = form.groups()
        key = await self._find(key_id)
        if key is None or not hmac.compare_digest(key.hash, _hash(secret)):
            return None
        if key.expires_at is not None and self._clock.utc_now().timestamp() >= key.expires_at:
            return None
        return Principal("operator" if key.role == "operator" else "caller", key_id)

    async def _find(self, key_id: str) -> ApiKey | None:
        if self._age_s() <= (FRESH_S if key_id in self._copy else AGAIN_S):
            return self._copy.get(key_id)
        async with self._one:
            if self._age_s() > AGAIN_S:  # nobody else has done it meanwhile
                try:
                    self._copy = {key.key_id: key for key in await self._keys.api_keys()}
                except StoreError:
                    if key_id not in self._copy:
                        raise
                    # What cannot be read cannot have been revoked either.
                self._copied_at = self._clock.monotonic()
        return self._copy.get(key_id)

    def _age_s(self) -> float:
        return self._clock.monotonic() - self._copied_at


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
