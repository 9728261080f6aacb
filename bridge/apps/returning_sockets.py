"""Recognises sockets that reconnect by themselves after their user was logged out. No I/O.

Common clients reconnect after each close, whatever its code, and the documented protocol has nothing that distinguishes
this from a user who logs in again. So each socket that a log-out closed may return once within a time limit: it is
served as usual, but does not make the user alive. Any further socket counts as the user.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic

from bridge.apps.hub import Connection
from contract.messages import LogoutReason

RETURNS_WITHIN_S = 30.0
"""After the close. A client that waits longer between two attempts cannot be distinguished from a user."""

BEATS_COUNT_AFTER_S = 20.0
"""After the return.

An app that was logged out for silence and keeps sending heartbeats is alive; one that sends only one at each connection
is not.
"""

REMEMBERED_FOR_S = 24 * 3600.0
"""If a user was logged out less than this before a restart, the user's socket may have returned before the bridge
stopped.
"""


@dataclass(slots=True)
class _Expected:
    """The sockets of one user that may return: how many of each name, or any number."""

    reason: LogoutReason
    until: float = 0.0
    clients: dict[str | None, int] = field(default_factory=dict)
    any_number: bool = False


class ReturningSockets(Generic[Connection]):
    """The sockets that are expected to return, and those that have. `now` is monotonic."""

    def __init__(self) -> None:
        self._expected: OrderedDict[str, _Expected] = OrderedDict()
        self._back: dict[Connection, tuple[LogoutReason, float]] = {}

    def sent_away(self, uid: str, clients: Iterable[str | None], reason: LogoutReason, now: float) -> None:
        """The user's sockets in the documented protocol, by name, were closed because the user was logged out."""
        self._forget(now)
        expected = self._expected.get(uid) or _Expected(reason)
        for client in clients:
            expected.clients[client] = expected.clients.get(client, 0) + 1
        if expected.clients or expected.any_number:
            self._expect(uid, expected, now)

    def restarted(self, left: Iterable[tuple[str, LogoutReason]], now: float) -> None:
        """The reason of the log-out if this socket of a logged-out user is expected.

        After this call it no longer is.
        """
        for uid, reason in left:
            self._expect(uid, _Expected(reason, any_number=True), now)

    def take(self, uid: str, client: str | None, now: float) -> LogoutReason | None:
        """A socket of a logged-out user connects: why, if the socket is expected; then it no longer is."""
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
        """A returned socket was accepted; it stays returned until `left`."""
        self._back[connection] = (reason, now)

    def left(self, connection: Connection) -> None:
        """The socket is gone, whether it had returned or not."""
        self._back.pop(connection, None)

    def is_back(self, connection: Connection) -> bool:
        """Whether the socket has returned."""
        return connection in self._back

    def does_beat_count(self, connection: Connection, now: float) -> bool:
        """Whether its heartbeat makes a user alive again who was logged out for missing heartbeats."""
        reason, since = self._back.get(connection, (None, now))
        return reason == "heartbeat_timeout" and now >= since + BEATS_COUNT_AFTER_S

    def _expect(self, uid: str, expected: _Expected, now: float) -> None:
        expected.until = now + RETURNS_WITHIN_S
        self._expected[uid] = expected
        self._expected.move_to_end(uid)

    def _forget(self, now: float) -> None:
        while self._expected and next(iter(self._expected.values())).until <= now:
            self._expected.popitem(last=False)
