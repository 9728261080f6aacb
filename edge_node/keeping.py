"""What a session decided: durable first, then told (E1)."""

from typing import Protocol

from contract.telemetry import get_logger
from edge_node.events import Told
from edge_node.outbox import WakeOutbox
from edge_node.session import Decision, EdgeState
from edge_node.state import StateFile

log = get_logger("edge")


class Session(Protocol):
    """Whose decisions these are."""

    state: EdgeState

    def stored(self) -> None:
        """What was decided is durable."""
        ...

    def suspend(self) -> None:
        """What was decided could not be stored: it is not so; standby."""
        ...


class Keeper:
    """Carries out decisions of one session; wakes of a session that is over are dropped."""

    def __init__(self, session: Session, state_file: StateFile, outbox: WakeOutbox, events: Told) -> None:
        self._session = session
        self._state_file = state_file
        self._outbox = outbox
        self._events = events

    def keep(self, decision: Decision) -> bool:
        """False if it could not be stored: then nobody is logged in until the session says otherwise."""
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
