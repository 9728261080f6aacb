"""Sockets of the documented protocol that come back by themselves after their user was logged out. No I/O.

Common clients reconnect after each close, whatever its code says, and nothing that the documented protocol has tells
that from a person who logs in again. So each socket that a log-out closed may return once within a while: it is served
as ever, and is no sign of life. Whoever comes besides is a person.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic

from bridge.hub import Connection
from contract.messages import LogoutReason

RETURNS_WITHIN_S = 30.0
"""After the close. What waits longer between two tries is told from a person by nothing."""

BEATS_COUNT_AFTER_S = 20.0
"""After the return. An app that was logged out for silence and goes on to be heard is alive; one that only says hello
each time is not."""

REMEMBERED_FOR_S = 24 * 3600.0
"""Who was logged out so long before a restart may be someone whose socket had returned when the bridge stopped."""


@dataclass(slots=True)
class _Expected:
    """The sockets of one user that may return: how many under each name, or any number."""

    reason: LogoutReason
    until: float = 0.0
    clients: dict[str | None, int] = field(default_factory=dict)
    any_number: bool = False


class Returns(Generic[Connection]):
    """Which sockets are expected back, and which are. `now` is monotonic."""

    def __init__(self) -> None:
        self._expected: OrderedDict[str, _Expected] = OrderedDict()
        self._back: dict[Connection, tuple[LogoutReason, float]] = {}

    def sent_away(self, uid: str, clients: Iterable[str | None], reason: LogoutReason, now: float) -> None:
        """The user's sockets of the documented protocol, by name, were closed because the user was logged out."""
        self._forget(now)
        expected = self._expected.get(uid) or _Expected(reason)
        for client in clients:
            expected.clients[client] = expected.clients.get(client, 0) + 1
        if expected.clients or expected.any_number:
            self._expect(uid, expected, now)

    def restarted(self, left: Iterable[tuple[str, LogoutReason]], now: float) -> None:
        """These were logged out before the bridge started; which sockets they had then, nobody knows any more."""
        for uid, reason in left:
            self._expect(uid, _Expected(reason, any_number=True), now)

    def take(self, uid: str, client: str | None, now: float) -> LogoutReason | None:
        """A socket of a user who is logged out connects: why that was, if it is an expected one, which it then was."""
        self._forget(now)
        expected = self._expected.get(uid)
        if expected is None:
            return None
        if not expected.any_number:
            if not expected.clients.get(client):
                return None
            expected.clients[client] -= 1
        return expected.reason

    def back(self, connection: Connection, reason: LogoutReason, now: float) -> None:
        """One that was taken is here, until it leaves."""
        self._back[connection] = (reason, now)

    def left(self, connection: Connection) -> None:
        """The socket is gone, whether it had returned or not."""
        self._back.pop(connection, None)

    def is_back(self, connection: Connection) -> bool:
        """Has it returned?"""
        return connection in self._back

    def does_beat_count(self, connection: Connection, now: float) -> bool:
        """Is a heartbeat on it a sign of life of a user who was logged out for the lack of one?"""
        reason, since = self._back.get(connection, (None, now))
        return reason == "heartbeat_timeout" and now >= since + BEATS_COUNT_AFTER_S

    def _expect(self, uid: str, expected: _Expected, now: float) -> None:
        expected.until = now + RETURNS_WITHIN_S
        self._expected[uid] = expected
        self._expected.move_to_end(uid)

    def _forget(self, now: float) -> None:
        while self._expected and next(iter(self._expected.values())).until <= now:
            self._expected.popitem(last=False)
