"""Carries out the ledger's rules: reads rows, lets the rules decide, commits, and only then tells the world."""

from collections.abc import Callable, Iterable

from bridge.deadlines import Deadlines, ServiceTime
from bridge.ledger import Answer, Change, Desk, PendingLogout, Session, Settled
from bridge.outbox import Outbox
from bridge.store import Store, Transaction
from contract.clock import Clock, iso
from contract.messages import Ack, Hello, Login, LogoutReason, Message, new_id
from contract.settings import BridgeSettings
from contract.telemetry import get_logger
from contract.topics import LOGIN, LOGOUT, Topic

log = get_logger("sessions")


class Sessions:
    """All sessions of all users.

    Args:
        send: publishes a message to a device; False when no broker is reached.
        on_ended: a session ended in the ledger.
        on_gone: a user is logged out everywhere; called after the commit and the commands.
    """

    def __init__(
        self,
        store: Store,
        settings: BridgeSettings,
        clock: Clock,
        *,
        send: Callable[[Topic, str, Message], bool],
        on_ended: Callable[[Session], None],
        on_gone: Callable[[str, LogoutReason], None],
    ) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self._send = send
        self._on_ended = on_ended
        self._on_gone = on_gone
        self._time = ServiceTime(clock.monotonic())
        self._deadlines = Deadlines()
        self._departed = Deadlines()
        self._outbox = Outbox()
        self._holder: dict[str, Session] = {}

    # What the rules ask of users

    def alive(self, uid: str) -> bool:
        """Connected, beating or logged in within the time-out, and not logged out since."""
        deadline = self._deadlines.get(uid)
        return deadline is not None and deadline > self._now()

    def lease_s(self, uid: str) -> float:
        """Seconds until the user's deadline and the grace after it; none for a user who is not alive."""
        deadline = self._deadlines.get(uid)
        return 0.0 if deadline is None else deadline + self._settings.lease_grace_s - self._now()

    def first_lease_s(self) -> float:
        """The lease of a user who begins to live now."""
        return self._settings.heartbeat_timeout_s + self._settings.lease_grace_s

    def may_adopt(self, uid: str) -> bool:
        """Not for a user whom we saw leaving."""
        return self._departed.get(uid) is None

    # What happens

    async def connected(self, uid: str) -> list[dict[str, str]]:
        """The user's app connected: extends the deadline, asks devices that claim the user; returns their sessions."""
        self._live(uid)
        async with self._store.transaction() as transaction:
            claims = await transaction.claimed_by(uid)
            sessions = await transaction.active_of(uid)
        for device_id in claims:
            self._poke(device_id, uid)
        return [describe(session) for session in sessions]

    async def heartbeat(self, uid: str) -> float | None:
        """Extend the deadline; seconds until it, or None when the user is not alive (then it must not be answered)."""
        if not self.alive(uid):
            return None
        self._live(uid)
        return self._settings.heartbeat_timeout_s

    async def login(self, uid: str, device_id: str, how: str) -> Session:
        """Open a session, whoever was in; counts as a sign of life of a user who was not alive."""
        if not self.alive(uid):
            self._live(uid)
        async with self._store.transaction() as transaction:
            desk = await self._desk(transaction, device_id)
            session = desk.open(uid, how)
            transaction.save(desk.changes)
        self._committed(desk.changes)
        self._publish(device_id, desk.answers)
        self._poke(device_id, uid)
        return session

    async def logout(self, uid: str, reason: LogoutReason) -> int:
        """End all sessions of the user; returns how many there were."""
        self._deadlines.remove(uid)
        self._departed.raise_to(uid, self._now() + self._settings.heartbeat_timeout_s)
        desks: list[Desk] = []
        async with self._store.transaction() as transaction:
            for session in await transaction.active_of(uid):
                desk = await self._desk(transaction, session.device_id)
                desk.end(reason)
                transaction.save(desk.changes)
                desks.append(desk)
        for desk in desks:
            self._committed(desk.changes)
            self._publish(desk.device.device_id, desk.answers)
        log.info("user_logged_out", uid=uid, reason=reason, sessions=len(desks))
        self._on_gone(uid, reason)
        return len(desks)

    async def report(self, device_id: str, report: Hello | Ack) -> None:
        """A device said where it stands."""
        nonce = report.nonce if isinstance(report, Hello) else None
        named = {entry.session_id for entry in report.ended}
        if report.session_id is not None:
            named.add(report.session_id)
        self._outbox.seen(device_id, online=True)
        async with self._store.transaction() as transaction:
            desk = await self._desk(transaction, device_id, named)
            desk.answer(report, nonce, self)
            transaction.save(desk.changes)
        if desk.adopted is not None and not self.alive(desk.adopted.uid):
            self._live(desk.adopted.uid)
        self._committed(desk.changes)
        self._publish(device_id, desk.answers)

    def device_seen(self, device_id: str, *, online: bool) -> None:
        """The device's status came."""
        self._outbox.seen(device_id, online=online)

    def user_of(self, device_id: str) -> str | None:
        """Who is logged in on the device."""
        session = self._holder.get(device_id)
        return None if session is None else session.uid

    async def tick(self) -> None:
        """Log out who is due, repeat commands that nobody confirmed; call every second or oftener."""
        now = self._now()
        self._departed.pop_due(now)
        for uid in self._deadlines.pop_due(now):
            await self.logout(uid, "heartbeat_timeout")
        for row in self._outbox.due(now):
            self._publish(row.device_id, [row.command()])

    # How

    def _now(self) -> float:
        """The service time of this very moment: a deadline set by an older one would come too early."""
        return self._time.advance(self._clock.monotonic())

    def _live(self, uid: str) -> None:
        self._departed.remove(uid)
        self._deadlines.raise_to(uid, self._now() + self._settings.heartbeat_timeout_s)

    async def _desk(self, transaction: Transaction, device_id: str, named: Iterable[str] = ()) -> Desk:
        return Desk(
            device=await transaction.device(device_id),
            active=await transaction.active(device_id),
            pending={row.session_id: row for row in await transaction.pending(device_id)},
            known=await transaction.sessions(named),
            issued_at=iso(self._clock.utc_now()),
            new_id=new_id,
        )

    def _committed(self, changes: Iterable[Change]) -> None:
        """Bring what is kept in memory up to what was written."""
        for change in changes:
            match change:
                case Session(ended=None):
                    self._holder[change.device_id] = change
                    log.info("session_opened", uid=change.uid, device_id=change.device_id)
                case Session():
                    holder = self._holder.get(change.device_id)
                    if holder is not None and holder.session_id == change.session_id:
                        del self._holder[change.device_id]
                    log.info("session_ended", uid=change.uid, device_id=change.device_id, reason=change.ended)
                    self._on_ended(change)
                case PendingLogout():
                    self._outbox.add(change, self._now())
                case Settled():
                    self._outbox.settled(change.device_id, change.session_id)
                    log.info("logout_confirmed", device_id=change.device_id)
                case _:
                    pass

    def _publish(self, device_id: str, answers: Iterable[Answer]) -> None:
        for answer in answers:
            self._send(LOGIN if isinstance(answer, Login) else LOGOUT, device_id, answer)

    def _poke(self, device_id: str, uid: str) -> None:
        self._send(LOGIN, device_id, Login(id=new_id(), uid=uid, issued_at=iso(self._clock.utc_now())))


def describe(session: Session) -> dict[str, str]:
    """A session as apps see it."""
    return {"session_id": session.session_id, "device_id": session.device_id}
