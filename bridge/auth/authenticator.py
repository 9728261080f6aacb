"""Authenticates, authorizes and rate-limits each request and connection."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from bridge.auth.api_keys import ApiKeys, Keys, is_one
from bridge.auth.principals import (
    EVERYBODY,
    MODELS,
    Principal,
    credentials_of,
    is_like_a_credential,
    is_like_a_token,
    may_enter,
)
from bridge.auth.rate_limits import Rates, peer_of
from bridge.auth.tickets import holder
from bridge.auth.tokens import KeyFile, SigningKey, TokenError, Verifier, load_libraries
from contract.clock import Clock
from infra.log_limit import LogLimit
from infra.settings.base import networks
from infra.settings.loader import Settings
from infra.telemetry import get_logger
from infra.web.forwarded import Headers, addresses_told, is_forwarded
from infra.web.middleware import comes_from, told_of

UNAUTHORISED, FORBIDDEN, TOO_MANY = 401, 403, 429
MOST_TRIED = 8
"""Credentials tried per request: proxies and libraries add their own."""
NEEDED = "a credential is needed: Authorization: Bearer, X-API-Key or ?key="
LOOPBACK = networks(["127.0.0.0/8", "::1"])

log = get_logger("doors")


@dataclass(frozen=True, slots=True)
class Refusal(Exception):  # noqa: N818 - an answer, not a fault
    """The request is refused.

    Attributes:
    status: of HTTP.
    detail: for the caller; never quotes the request.
    retry_after_s: for 429.
    """

    status: int
    detail: str
    retry_after_s: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result for a handshake that passes two checks, so that it is counted for its address only once.

    Attributes:
    refusal: a rate limit is exceeded.
    principal: the owner of the credential, already counted; None if unknown.
    """

    refusal: Refusal | None = None
    principal: Principal | None = None


class Authenticator:
    """Checks requests against the settings `auth`, `legacy` and `limits`."""

    def __init__(self, settings: Settings, keys: Keys, clock: Clock) -> None:
        self.required = settings.auth.mode == "required"
        self._clock = clock
        self._rates = Rates(settings.limits, clock)
        self._api_keys = ApiKeys(keys, clock)
        self._signing = KeyFile(settings.auth.key_file, clock)
        self._verifier = Verifier()
        self._legacy = networks(settings.legacy.allow_networks)
        self._behind_proxy = bool(settings.bridge.trusted_proxies)
        self._rarely = LogLimit()

    def open(self) -> None:
        """Read the signing keys, creating them if missing; raises StartError."""
        if self.required:
            load_libraries()
            self._signing.open()

    def read_again(self) -> Sequence[str]:
        """Read the signing keys now if their file has changed; returns the names of the valid ones."""
        return [key.key_id for key in self._signing.look()]

    @property
    def signing_keys(self) -> Sequence[SigningKey]:
        """The keys that sign tokens, newest first."""
        return self._signing.keys

    async def note_key_use(self) -> None:
        """See `ApiKeys.note_use`."""
        await self._api_keys.note_use()

    async def authorize(self, path: str, address: str | None, headers: Headers, query: bytes) -> Principal:
        """The principal that calls this HTTP endpoint; raises Refusal, or StoreError if the ledger cannot be read."""
        principal = self._with_ticket(path, headers) or await self.authenticate(address, headers, query)
        if not may_enter(principal, path):
            raise Refusal(FORBIDDEN, "this credential is not for this endpoint")
        return principal

    def _with_ticket(self, path: str, headers: Headers) -> Principal | None:
        """The device that fetches a model with its ticket; None for any other request, and for an invalid ticket.

        Raises Refusal if it fetches too often.
        """
        if not self.required or not path.startswith(MODELS):
            return None
        for text in credentials_of(headers, b"")[:MOST_TRIED]:
            with suppress(TokenError):
                device = holder(text, self.signing_keys, now=self._clock.utc_now().timestamp())
                self._count_credential(device)
                return device
        return None

    def count(self, address: str | None) -> None:
        """Count one request or connection of this address; raises Refusal."""
        wait_s = self._rates.hit("address", peer_of(address))
        if wait_s is not None:
            raise Refusal(TOO_MANY, "too many requests from this address", wait_s)

    async def authenticate(
        self, address: str | None, headers: Headers, query: bytes, offered: Sequence[str] | None = None
    ) -> Principal:
        """The principal of a request, counted; raises Refusal, or StoreError if the ledger cannot be read.

        The first valid credential counts, wherever it is. `offered` are the subprotocols of an app's socket; there a
        token
        comes before a key, which opens no socket.
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

    async def holder(self, key_id: str) -> Principal | None:
        """The principal of an API key that was checked before; None if it is no longer valid. Raises StoreError."""
        return await self._api_keys.holder(key_id)

    def authenticate_app_at_once(self, headers: Headers, query: bytes, offered: Sequence[str]) -> Principal | None:
        """The principal of an app whose first credential is a valid token, counted; else None.

        `offered` are its subprotocols. Raises Refusal if it connects too often.
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
        self._count_credential(principal)
        return principal

    async def _check(self, address: str | None, candidates: Sequence[str]) -> Principal:
        problem = ""
        for credential in candidates:
            found = await self._principal(credential)
            if isinstance(found, str):
                problem = problem or found
                continue
            self._count_credential(found)
            return found
        raise self._refuse(address, problem)

    def _count_credential(self, principal: Principal) -> None:
        wait_s = self._rates.hit("app" if principal.kind == "app" else "caller", principal.name)
        if wait_s is not None:
            raise Refusal(TOO_MANY, "too many requests with this credential", wait_s)

    async def _principal(self, credential: str) -> Principal | str:
        """The owner of a credential, or why it is invalid; raises StoreError."""
        if is_one(credential):
            return await self._api_keys.principal(credential) or "this key is not valid (any more)"
        try:
            return self._verifier.verify(credential, self.signing_keys, now=self._clock.utc_now().timestamp())
        except TokenError as error:
            return str(error)

    def _is_for_elsewhere(self, headers: Headers) -> bool:
        """Whether a proxy forwarded this for a client that is not known to be on this machine."""
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
            "this bridge requires no credentials, and a proxy forwarded this request from another machine: set "
            "auth.mode = required",
        )

    def _refuse(self, address: str | None, detail: str) -> Refusal:
        peer = peer_of(address)
        wait_s = self._rates.hit("failures", peer)
        if wait_s is not None:
            return Refusal(TOO_MANY, "too many attempts without a valid credential", wait_s)
        log.info("refused", address=peer, reason=detail)
        return Refusal(UNAUTHORISED, detail)


def _candidates(shown: Sequence[str], offered: Sequence[str] | None) -> list[str]:
    """Texts with the form of a credential, in the order in which they are tried."""
    found = [text for text in (*(offered or ()), *shown) if is_like_a_credential(text)]
    if offered is not None:
        found.sort(key=lambda text: not is_like_a_token(text))
    return found[:MOST_TRIED]


def _is_here(address: str) -> bool:
    return comes_from((address, 0), LOOPBACK)
