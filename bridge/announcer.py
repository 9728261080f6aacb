"""After the commit: what is kept in memory follows, then devices and apps are told."""

from collections.abc import Callable, Iterable

from bridge.holders import Holders
from bridge.ledger import Answer, Desk
from bridge.outbox import Outbox
from bridge.rows import Change, PendingLogout, Session, Settled
from contract.clock import Clock, iso
from contract.messages import Login, Message, new_id
from contract.telemetry import get_logger
from contract.topics import LOGIN, LOGOUT, Topic

log = get_logger("sessions")


class Announcer:
    """Tells what was committed.

    Args:
        send: publishes a message to a device; False when no broker is reached.
        on_opened: a session is in the ledger.
        on_ended: a session ended in the ledger.
    """

    def __init__(
        self,
        clock: Clock,
        holders: Holders,
        outbox: Outbox,
        *,
        send: Callable[[Topic, str, Message], bool],
        on_opened: Callable[[Session], None],
        on_ended: Callable[[Session], None],
    ) -> None:
        self._clock = clock
        self._holders = holders
        self._outbox = outbox
        self._send = send
        self._on_opened = on_opened
        self._on_ended = on_ended

    def decided(self, desks: Iterable[Desk]) -> None:
        """What the rules decided on these devices is on disk."""
        for desk in desks:
            self.committed(desk.changes)
            self.publish(desk.device.device_id, desk.answers)

    def committed(self, changes: Iterable[Change]) -> None:
        """These rows are on disk."""
        for change in changes:
            match change:
                case Session(ended=None):
                    self._holders.opened(change)
                    log.info("session_opened", uid=change.uid, device_id=change.device_id)
                    self._on_opened(change)
                case Session():
                    self._holders.ended(change)
                    log.info("session_ended", uid=change.uid, device_id=change.device_id, reason=change.ended)
                    self._on_ended(change)
                case PendingLogout():
                    self._outbox.add(change, self._clock.monotonic())
                case Settled():
                    self._outbox.settled(change.device_id, change.session_id)
                    log.info("logout_confirmed", device_id=change.device_id)
                case _:
                    pass

    def publish(self, device_id: str, answers: Iterable[Answer]) -> None:
        """Send commands to a device, in this order."""
        for answer in answers:
            self._send(LOGIN if isinstance(answer, Login) else LOGOUT, device_id, answer)

    def poke(self, device_id: str, uid: str) -> None:
        """Ask a device to say hello now."""
        self._send(LOGIN, device_id, Login(id=new_id(), uid=uid, issued_at=iso(self._clock.utc_now())))
