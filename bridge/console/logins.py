"""Who is logged in at the console: which key is behind a cookie. No I/O."""

import hashlib
import secrets
from collections import OrderedDict
from dataclasses import dataclass

MOST = 1000
"""Beyond it the log-in that is longest unused ends."""
IDLE_S = 30 * 60.0
LONGEST_S = 12 * 3600.0
LINK_S = 600.0
"""How long a link may wait for its one use."""


@dataclass(slots=True)
class Login:
    """One browser that is logged in.

    Attributes:
        key_id: the API key with which it logged in; the log-in ends with the key.
        token: each form of this browser carries it.
        began: monotonic.
        used: monotonic.
        ended: the browser was logged out.
    """

    key_id: str
    token: str
    began: float
    used: float
    ended: bool = False

    def is_over(self, now: float) -> bool:
        """Whether it has ended, or ends now."""
        return self.ended or now - self.used >= IDLE_S or now - self.began >= LONGEST_S


class Logins:
    """Two bounded tables; of cookies and links only hashes are kept. `now` is monotonic."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._logins: OrderedDict[str, Login] = OrderedDict()
        self._links: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._logins)

    def begin(self, key_id: str, now: float) -> str:
        """Log a browser in; returns the cookie."""
        cookie = secrets.token_urlsafe(32)
        self._logins[_hash(cookie)] = Login(key_id, secrets.token_urlsafe(32), now, now)
        if len(self._logins) > self._most:
            self._logins.popitem(last=False)
        return cookie

    def link(self, key_id: str, now: float) -> str:
        """A text that logs in once, in the name of a key, within LINK_S."""
        once = secrets.token_urlsafe(32)
        self._links[_hash(once)] = (key_id, now + LINK_S)
        if len(self._links) > self._most:
            self._links.popitem(last=False)
        return once

    def use(self, once: str, now: float) -> str | None:
        """The key of a link, which is then used up; None for one that is unknown, used or too old."""
        key_id, until = self._links.pop(_hash(once), ("", now))
        return key_id if now < until else None

    def find(self, cookie: str, now: float, *, uses: bool = True) -> Login | None:
        """The log-in behind a cookie; None if there is none, or if it has ended. `uses`: it counts as used now."""
        name = _hash(cookie)
        login = self._logins.get(name)
        if login is None:
            return None
        if login.is_over(now):
            del self._logins[name]
            return None
        if uses:
            login.used = now
            self._logins.move_to_end(name)
        return login

    def end(self, cookie: str) -> None:
        """Log the browser out."""
        login = self._logins.pop(_hash(cookie), None)
        if login is not None:
            login.ended = True


def _hash(cookie: str) -> str:
    return hashlib.sha256(cookie.encode()).hexdigest()
