"""The judgement of each request and connection: who is it, may it enter, is it too much."""

from collections.abc import Sequence
from dataclasses import dataclass

from bridge.auth.api_keys import ApiKeys, Keys, is_one
from bridge.auth.principals import EVERYBODY, Headers, Principal, credential_of, is_forwarded, may_enter
from bridge.auth.rates import Rates, peer_of
from bridge.auth.tokens import KeyFile, SigningKey, TokenError, Verifier
from contract.clock import Clock
from contract.guards import comes_from
from contract.sections.base import networks
from contract.settings import Settings
from contract.telemetry import get_logger

UNAUTHORISED, FORBIDDEN, TOO_MANY = 401, 403, 429

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

    async def who(self, address: str | None, headers: Headers, query: bytes) -> Principal:
        """Whose request it is, counted; raises Refusal, or StoreError when the ledger cannot be read."""
        headers = list(headers)
        forwarded = is_forwarded(headers) and not self._behind_proxy
        if not self.required:
            if forwarded:
                raise Refusal(
                    FORBIDDEN,
                    "this bridge is open to its own machine only, and this request came through a proxy: set "
                    "auth.mode = required",
                )
            return EVERYBODY
        credential = credential_of(headers, query)
        if credential is None:
            if not forwarded and comes_from((address or "", 0), self._legacy):
                return Principal("network", peer_of(address))
            raise self._refuse(address, "a credential is needed: Authorization: Bearer, X-API-Key or ?key=")
        return await self.check(address, credential)

    def app_at_once(self, headers: Headers, query: bytes, tokens: Sequence[str]) -> Principal | None:
        """The app that connects, counted, where that takes neither the ledger nor a refusal; else None.

        `tokens` are those among its subprotocols.
        """
        headers = list(headers)
        if not self.required:
            return None if is_forwarded(headers) and not self._behind_proxy else EVERYBODY
        credential = tokens[0] if tokens else credential_of(headers, query)
        if credential is None or is_one(credential):
            return None
        try:
            principal = self._verifier.verify(credential, self.signing_keys, now=self._clock.utc_now().timestamp())
        except TokenError:
            return None
        return principal if self._rates.hit("app", principal.name) is None else None

    async def check(self, address: str | None, credential: str) -> Principal:
        """Whose credential it is, counted; raises Refusal, or StoreError when the ledger cannot be read."""
        principal = await self._principal(address, credential)
        wait_s = self._rates.hit("app" if principal.kind == "app" else "caller", principal.name)
        if wait_s is not None:
            raise Refusal(TOO_MANY, "too many requests with this credential", wait_s)
        return principal

    async def _principal(self, address: str | None, credential: str) -> Principal:
        if is_one(credential):
            principal = await self._api_keys.principal(credential)
            if principal is None:
                raise self._refuse(address, "this key is not valid (any more)")
            return principal
        try:
            return self._verifier.verify(credential, self.signing_keys, now=self._clock.utc_now().timestamp())
        except TokenError as error:
            raise self._refuse(address, str(error)) from None

    def _refuse(self, address: str | None, detail: str) -> Refusal:
        peer = peer_of(address)
        wait_s = self._rates.hit("failures", peer)
        if wait_s is not None:
            return Refusal(TOO_MANY, "too many attempts without a valid credential", wait_s)
        log.info("refused", address=peer, reason=detail)
        return Refusal(UNAUTHORISED, detail)
