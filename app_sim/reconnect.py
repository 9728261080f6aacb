"""What to do after a connection ended, by the range of its close code; decides without I/O."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from contract.app_socket import CloseCode, comes_back

FIRST_S = 0.5
"""The longest wait before the first new attempt; it doubles with each further one."""

STABLE_AFTER_S = 10.0
"""A connection that lived this long makes the next attempt a first one again."""

MAX_ASKED_S = 3600.0
"""A longer wait that a server requests is shortened to this."""

ABNORMAL = 1006

_TEMPORARY_REFUSALS = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)
_MAX_DOUBLINGS = 32

_MEANINGS: dict[int, str] = {
    1000: "the server closed the connection",
    CloseCode.GOING_AWAY: "the server is going away",
    ABNORMAL: "the connection was lost",
    1012: "the server is restarting",
    CloseCode.DRAIN: "the server is draining its connections",
    CloseCode.SLOW_CONSUMER: "this app read too slowly",
    CloseCode.RATE: "this app sent too much",
    CloseCode.HEARTBEAT_TIMEOUT: (
        "the server received no heartbeat for too long and logged this user out; start the app again to return"
    ),
    CloseCode.LOGGED_OUT: "this user was logged out; start the app again to return",
    CloseCode.REPLACED: "another app with the same client name took this one's place",
    CloseCode.UNAUTHORISED: "this app is not authorised for this uid; give it a valid credential",
    CloseCode.BAD_MESSAGE: "the server did not understand a message of this app; it may need a newer version",
    CloseCode.TOO_MANY: "this uid has too many open sockets, so the server closed the oldest",
}


@dataclass(frozen=True, slots=True)
class Retry:
    """Connect again after `delay_s`."""

    delay_s: float
    reason: str
    code: int | None = None


@dataclass(frozen=True, slots=True)
class Stop:
    """Do not connect again; `wanted` if this app's own user requested it."""

    reason: str
    code: int | None = None
    wanted: bool = False


def meaning(code: int | None, reason: str = "") -> str:
    """A sentence for people: by the close code, with the given reason if the code is undocumented or absent."""
    if code is None:
        return reason
    known = _MEANINGS.get(code)
    if known is not None:
        return known
    return f"the connection was closed with code {code}" + (f" ({reason})" if reason else "")


def retry_after_s(values: Sequence[str], now: datetime) -> float:
    """How long the server asks to wait by its Retry-After headers, as seconds or as a date; 0 without one."""
    longest = 0.0
    for value in values:
        text = value.strip()
        if text.isascii() and text.isdigit():
            longest = max(longest, float(text[:9]))
            continue
        try:
            longest = max(longest, (parsedate_to_datetime(text) - now).total_seconds())
        except (ValueError, TypeError, OverflowError):
            continue
    return min(longest, MAX_ASKED_S)


def asked_wait_s(reason: str) -> float:
    """How long the server asks to wait by the `retry_ms` in the reason of its close; 0 without it."""
    try:
        told = json.loads(reason)
    except ValueError:
        return 0.0
    wait_ms = told.get("retry_ms") if isinstance(told, dict) else None
    if not isinstance(wait_ms, int | float) or isinstance(wait_ms, bool) or not wait_ms > 0:
        return 0.0
    return min(wait_ms / 1000, MAX_ASKED_S)


class Reconnect:
    """Exponential back-off with full jitter: between zero and the ceiling, which doubles up to `max_s`."""

    def __init__(self, max_s: float, random: Callable[[], float]) -> None:
        self._max_s = max_s
        self._random = random
        self._tries = 0

    def after_close(self, code: int | None, reason: str = "", *, lived_s: float = 0.0) -> Retry | Stop:
        """A connection that was open for `lived_s` ended with this code (1006: lost; None: ended by this app)."""
        if lived_s >= STABLE_AFTER_S:
            self._tries = 0
        if code is not None and not comes_back(code):
            return Stop(meaning(code, reason), code)
        return self._retry(meaning(code, reason), code, asked_wait_s(reason))

    def after_refusal(self, status: int, at_least_s: float = 0.0) -> Retry | Stop:
        """The server answered the handshake with an HTTP status and a requested wait, instead of a WebSocket."""
        reason = f"the server refused the connection with HTTP {status}"
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _TEMPORARY_REFUSALS:
            return self._retry(reason, status, at_least_s)
        return Stop(f"{reason}; check the address, the uid and the credential", status)

    def after_failure(self, reason: str) -> Retry:
        """The connection was not established."""
        return self._retry(reason, None)

    def _retry(self, reason: str, code: int | None, at_least_s: float = 0.0) -> Retry:
        ceiling = min(self._max_s, FIRST_S * 2 ** min(self._tries, _MAX_DOUBLINGS))
        self._tries += 1
        return Retry(at_least_s + self._random() * ceiling, reason, code)
