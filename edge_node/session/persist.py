"""Carries out decisions of the session: on disk first, then reported (E1)."""

from typing import Protocol

from edge_node.display.events import Told
from edge_node.session.rules import Decision, EdgeState
from edge_node.session.state_file import StateFile
from edge_node.session.wake_outbox import WakeOutbox
from infra.telemetry import get_logger

log = get_logger("edge")


class Session(Protocol):
    """The session that decides."""

    state: EdgeState

    def stored(self) -> None:
        """The decision is durable."""
        ...

    def suspend(self) -> None:
        """The decision could not be stored: undo it; standby."""
        ...


class DecisionKeeper:
    """Carries out decisions of one session; drops wakes of a session that has ended."""

    def __init__(self, session: Session, state_file: StateFile, outbox: WakeOutbox, events: Told) -> None:
        self._session = session
        self._state_file = state_file
        self._outbox = outbox
        self._events = events

    def keep(self, decision: Decision) -> bool:
        """False if it could not be stored: then no user is logged in until the session changes."""
        if decision.save is not None:
            try:
                self._state_file.save(decision.save)
            except OSError as error:
                log.error("state_not_stored", error=error.strerror)
                self._session.suspend()
                self._outbox.clear()
                return False
            self._session.stored()
        if decision.ended is not None:
            self._outbox.clear()
            session_id = decision.save.ended[-1].session_id if decision.save is not None else None
            self._events.emit("logged_out", reason=decision.ended, session_id=session_id)
        if decision.began is not None:
            held = self._session.state.held
            self._events.emit("logged_in", uid=decision.began, session_id=held.session_id if held else None)
        return True
