"""The events of sessions, each of which is in the ledger when it is told. No I/O."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bridge.storage.records import Change, PendingLogout, Session, Settled
from contract.messages import LogoutReason


@dataclass(frozen=True, slots=True)
class SessionOpened:
    """A user is logged in on a device."""

    session: Session


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """A user is logged out on a device; `session.ended` says why."""

    session: Session


@dataclass(frozen=True, slots=True)
class LogoutQueued:
    """A device must be told that a session ended, until it confirms."""

    row: PendingLogout


@dataclass(frozen=True, slots=True)
class LogoutConfirmed:
    """A device no longer needs to be told."""

    device_id: str
    session_id: str


@dataclass(frozen=True, slots=True)
class UserLoggedOut:
    """A user is logged out everywhere; comes after the events of each session, and after the commands to devices."""

    uid: str
    reason: LogoutReason


Event = SessionOpened | SessionEnded | LogoutQueued | LogoutConfirmed | UserLoggedOut


def events_of(changes: Iterable[Change]) -> Iterator[Event]:
    """What these rows tell, in their order; others (deadlines, devices, pushes) tell nothing."""
    for change in changes:
        match change:
            case Session(ended=None):
                yield SessionOpened(change)
            case Session():
                yield SessionEnded(change)
            case PendingLogout():
                yield LogoutQueued(change)
            case Settled():
                yield LogoutConfirmed(change.device_id, change.session_id)
            case _:
                pass
