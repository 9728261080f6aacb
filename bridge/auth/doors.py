"""The judgement of each request and connection: who is it, may it enter, is it too much."""

from collections.abc import Sequence
from dataclasses import dataclass

from bridge.auth.api_keys import ApiKeys, Keys, is_one
from bridge.auth.principals import (
    EVERYBODY,
    Principal,
    credentials_of,
    is_like_a_credential,
    is_like_a_token,
    may_enter,
)
from bridge.auth.rates import Rates, peer_of
from bridge.auth.tokens import KeyFile, SigningKey, TokenError, Verifier
from contract.clock import Clock
from contract.forwarded import Headers, addresses_told, is_forwarded
from contract.guards import comes_from, told_of
from contract.rarely import Rarely
from contract.sections.base import networks
from contract.settings import Settings
from contract.telemetry import get_logger

UNAUTHORISED, FORBIDDEN, TOO_MANY = 401, 403, 429
MOST_TRIED = 8
"""Credentials of one request: proxies and libraries add their own."""
NEEDED = "a credential is needed: Authorization: Bearer, X-API-Key or ?key="
LOOPBACK = networks(["127.0.0.0/8", "::1"])

log = get_logger("doors")


@dataclass(frozen=True, slots=True)
class Refusal(Exception):  # noqa: N818 - an answer, not a fault
    """Not let in.

    Attributes:
        status: of HTTP.
        detail: for the caller; repeats nothing that it sent.
        retry_after_s: for 429.
    """

    status: int
    detail: str
    retry_after_s: int | None = None


class Doors:
    """Judges by the settings `auth`, `legacy` and `limits`."""

    def __init__(self, settings: Settings, keys: Keys, clock: Clock) -> None:
        self.required = settings.auth.mode == "required"
        self._clock = clock
        self._rates = Rates(settings.limits, clock)
        self._api_keys = ApiKeys(keys, clock)
        self._signing = KeyFile(settings.auth.key_file, clock)
        self._verifier = Verifier()
        self._legacy = networks(settings.legacy.allow_networks)
        self._behind_proxy = bool(settings.bridge.trusted_proxies)
        self._rarely = Rarely()

    def open(self) -> None:
        """Read the signing keys, made when missing; raises StartError."""
        if self.required:
            self._signing.open()

    @property
    def signing_keys(self) -> Sequence[SigningKey]:
        """What signs tokens, the newest first."""
        return self._signing.keys

    async def enter(self, path: str, address: str | None, headers: Headers, query: bytes) -> Principal:
        """Who calls this HTTP endpoint; raises Refusal, or StoreError when the ledger cannot be read."""
        principal = await self.who(address, headers, query)
        if not may_enter(principal, path):
            raise Refusal(FORBIDDEN, "this credential is not for this endpoint")
        return principal

    def count(self, address: str | None) -> None:
        """One more request or connection of this address; raises Refusal."""
        wait_s = self._rates.hit("address", peer_of(address))
        if wait_s is not None:
            raise Refusal(TOO_MANY, "too many requests from this address", wait_s)

    async def who(
        self, address: str | None, headers: Headers, query: bytes, offered: Sequence[str] | None = None
    ) -> Principal:
        """Whose request it is, counted; raises Refusal, or StoreError when the ledger cannot be read.

        The first credential that is valid counts, wherever it stands. `offered` are the subprotocols of an app's
        socket; there a token comes before a key, which opens no socket.
        """
        headers = list(headers)
        if not self.required:
            if self._is_for_elsewhere(headers):
                raise self._refuse_proxied(headers)
            return EVERYBODY
        shown = credentials_of(headers, query)
        if candidates := _candidates(shown, offered):
            return await self._check(address, candidates)
        if shown:
            raise self._refuse(address, f"{NEEDED}; what was shown is neither a token nor an API key")
        forwarded = is_forwarded(headers) and not self._behind_proxy
        if not forwarded and comes_from((address or "", 0), self._legacy):
            return Principal("network", peer_of(address))
        raise self._refuse(address, NEEDED)

    def app_at_once(self, headers: Headers, query: bytes, offered: Sequence[str]) -> Principal | None:
        """The app that connects, counted, where that takes neither the ledger nor a refusal; else None.

        `offered` are its subprotocols.
        """
        headers = list(headers)
        if not self.required:
            return None if self._is_for_elsewhere(headers) else EVERYBODY
        candidates = _candidates(credentials_of(headers, query), offered)
        if not candidates or not is_like_a_token(candidates[0]):
            return None
        try:
            principal = self._verifier.verify(candidates[0], self.signing_keys, now=self._clock.utc_now().timestamp())
        except TokenError:
            return None
        return principal if self._rates.hit("app", principal.name) is None else None

    async def _check(self, address: str | None, candidates: Sequence[str]) -> Principal:
        problem = ""
        for credential in candidates:
            found = await self._principal(credential)
            if isinstance(found, str):
                problem = problem or found
                continue
            wait_s = self._rates.hit("app" if found.kind == "app" else "caller", found.name)
            if wait_s is not None:
                raise Refusal(TOO_MANY, "too many requests with this credential", wait_s)
            return found
        raise self._refuse(address, problem)

    async def _principal(self, credential: str) -> Principal | str:
        """Whose credential it is, or why it is nobody's; raises StoreError."""
        if is_one(credential):
            return await self._api_keys.principal(credential) or "this key is not valid (any more)"
        try:
            return self._verifier.verify(credential, self.signing_keys, now=self._clock.utc_now().timestamp())
        except TokenError as error:
            return str(error)

    def _is_for_elsewhere(self, headers: Headers) -> bool:
        """Did a proxy hand this on for somebody who is not known to be on this machine?"""
        headers = list(headers)
        if not is_forwarded(headers) or self._behind_proxy:
            return False
        told = addresses_told(headers)
        return not told or not all(address is not None and _is_here(address) for address in told)

    def _refuse_proxied(self, headers: Headers) -> Refusal:
        told = told_of(headers)
        if self._rarely.is_due(tuple(told.items()), self._clock.monotonic()):
            log.warning("proxied_request_refused", **told, advice="set auth.mode = required and bridge.trusted_proxies")
        return Refusal(
            FORBIDDEN,
            "this open bridge was called through a proxy from elsewhere: set auth.mode = required",
        )

    def _refuse(self, address: str | None, detail: str) -> Refusal:
        peer = peer_of(address)
        wait_s = self._rates.hit("failures", peer)
        if wait_s is not None:
            return Refusal(TOO_MANY, "too many attempts without a valid credential", wait_s)
        log.info("refused", address=peer, reason=detail)
        return Refusal(UNAUTHORISED, detail)


def _candidates(shown: Sequence[str], offered: Sequence[str] | None) -> list[str]:
    """What has the form of a credential, in the order in which it is tried."""
    found = [text for text in (*(offered or ()), *shown) if is_like_a_credential(text)]
    if offered is not None:
        found.sort(key=lambda text: not is_like_a_token(text))
    return found[:MOST_TRIED]


def _is_here(address: str) -> bool:
    return comes_from((address, 0), LOOPBACK)
