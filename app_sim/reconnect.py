"""What to do after a connection ended, by the range of its close code; decides without I/O."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

FIRST_S = 0.5
"""The longest wait before the first new try; it doubles with each further one."""

STABLE_AFTER_S = 10.0
"""A connection that lived this long makes the next try a first one again."""

MAX_ASKED_S = 3600.0
"""A server that asks for more patience than this is asked again nevertheless."""

ABNORMAL = 1006
LOGGED_OUT = 4501

_FINAL_CODES = range(4500, 5000)
_TEMPORARY_REFUSALS = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)
_MAX_DOUBLINGS = 32

_MEANINGS = {
    1000: "the server closed the connection",
    1001: "the server is going away",
    ABNORMAL: "the connection was lost",
    1012: "the server is restarting",
    4000: "the server is draining its connections",
    4001: "this app read too slowly",
    4008: "this app sent too much",
    4500: "the server heard no heartbeat for too long and logged this user out; start the app again to come back",
    LOGGED_OUT: "this user was logged out; start the app again to come back",
    4502: "another app with the same client name took this one's place",
    4503: "this app is not authorised for this uid; give it a valid credential",
    4504: "the server did not understand a message of this app; it may need a newer version",
    4505: "this uid has too many open sockets, so the server closed the oldest",
}


@dataclass(frozen=True, slots=True)
class Retry:
    """Connect again after `delay_s`."""

    delay_s: float
    reason: str
    code: int | None = None


@dataclass(frozen=True, slots=True)
class Stop:
    """Do not connect again; `wanted` when this app's own user asked for it."""

    reason: str
    code: int | None = None
    wanted: bool = False


def meaning(code: int | None, reason: str = "") -> str:
    """A sentence for people: by the close code, with the given reason when the code is undocumented or absent."""
    if code is None:
        return reason
    known = _MEANINGS.get(code)
    if known is not None:
        return known
    return f"the connection was closed with code {code}" + (f" ({reason})" if reason else "")


def retry_after_s(values: Sequence[str], now: datetime) -> float:
    """How long the server asks to wait by its Retry-After headers, as seconds or as a date; 0 when it does not."""
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


class Reconnect:
    """Exponential back-off with full jitter: between nothing and the ceiling, which doubles up to `max_s`."""

    def __init__(self, max_s: float, random: Callable[[], float]) -> None:
        self._max_s = max_s
        self._random = random
        self._tries = 0

    def after_close(self, code: int | None, reason: str = "", *, lived_s: float = 0.0) -> Retry | Stop:
        """A connection that was open for `lived_s` ended with this code (1006: lost; None: given up by this app)."""
        if lived_s >= STABLE_AFTER_S:
            self._tries = 0
        if code is not None and code in _FINAL_CODES:
            return Stop(meaning(code, reason), code)
        return self._retry(meaning(code, reason), code)

    def after_refusal(self, status: int, at_least_s: float = 0.0) -> Retry | Stop:
        """The server answered the handshake with an HTTP status, and asked for patience, instead of a WebSocket."""
        reason = f"the server refused the connection with HTTP {status}"
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _TEMPORARY_REFUSALS:
            return self._retry(reason, status, at_least_s)
        return Stop(f"{reason}; check the address, the uid and the credential", status)

    def after_failure(self, reason: str) -> Retry:
        """No connection came to be."""
        return self._retry(reason, None)

    def _retry(self, reason: str, code: int | None, at_least_s: float = 0.0) -> Retry:
        ceiling = min(self._max_s, FIRST_S * 2 ** min(self._tries, _MAX_DOUBLINGS))
        self._tries += 1
        return Retry(at_least_s + self._random() * ceiling, reason, code)
