"""The session of a device that speaks only HTTP. No I/O.

No bridge grants this session, and only a request can end it: guarantee 3 of docs/reliability.md does not hold here.
"""

from collections.abc import Callable
from dataclasses import replace

from contract.messages import EndReason
from edge_node.session.rules import Decision, EdgeState, Held, with_ended

_NO_LEASE_S = 0.0
"""If the device later speaks MQTT, such a session ends at once and the bridge decides."""


class LocalSession:
    """The device's session; after each Decision with `save` the caller calls `stored()`, or `suspend()`.

    Args:
    state: as loaded.
    configured_uid: who is logged in on a device without any earlier log-in or log-out. Later it is ignored: it would
    undo the log-out of a user who left.
    """

    def __init__(self, state: EdgeState, configured_uid: str | None, *, new_id: Callable[[], str]) -> None:
        self.state = state
        self._stored = state
        self._configured_uid = configured_uid
        self._new_id = new_id
        self._on = state.held is not None

    @property
    def active_uid(self) -> str | None:
        """The user whose wakes are sent; None in standby."""
        return self.state.held.uid if self.state.held is not None and self._on else None

    def begin(self) -> Decision:
        """The process has started."""
        held, uid = self.state.held, self._configured_uid
        if held is not None:
            return Decision(began=held.uid)
        return self.login(uid) if uid is not None and not self.state.ended else Decision()

    def login(self, uid: str) -> Decision:
        """Log a user in; another user is logged out."""
        if uid == self.active_uid:
            return Decision()
        held = self.state.held
        ended = self.state.ended if held is None else with_ended(self.state.ended, held.session_id, "replaced")
        self.state = replace(self.state, held=Held(self._new_id(), uid, _NO_LEASE_S), ended=ended)
        self._on = True
        return Decision(save=self.state, began=uid, ended=None if held is None else "replaced")

    def logout(self, uid: str) -> Decision | None:
        """None if another user is logged in: nothing changed."""
        held = self.state.held
        if held is None:
            return Decision()
        if held.uid != uid:
            return None
        reason: EndReason = "done"
        self.state = replace(self.state, held=None, ended=with_ended(self.state.ended, held.session_id, reason))
        self._on = False
        return Decision(save=self.state, ended=reason)

    def stored(self) -> None:
        """The decision is durable."""
        self._stored = self.state

    def suspend(self) -> None:
        """The decision could not be stored: undo it; standby until the next log-in or log-out."""
        self.state = self._stored
        self._on = False
