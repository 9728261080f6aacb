"""Carries out the rules of sessions: read rows, decide, commit, then run the effects."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager

from bridge.sessions.connect import Connector, UserData
from bridge.sessions.connect_batcher import ConnectBatcher
from bridge.sessions.devices import Devices
from bridge.sessions.durable_deadlines import DurableDeadlines
from bridge.sessions.effects import Effects, OnEvent
from bridge.sessions.errors import DeviceBehindError, NoSuchDeviceError
from bridge.sessions.http_logouts import HttpLogouts
from bridge.sessions.ledger import Ledger, LedgerTurn
from bridge.sessions.load import DeviceSessionLoader
from bridge.sessions.memory import LedgerMemory
from bridge.sessions.reports import Reports
from bridge.sessions.rules.device_session import DeviceSession, user_is_back, without_session
from bridge.storage.records import Change, Departed, Session, Unsubscribed
from bridge.storage.store import Loaded, Store, StoreError
from contract.clock import Clock, iso
from contract.messages import Ack, DeviceStatus, Hello, LogoutReason, new_id
from infra.settings.loader import Settings
from infra.telemetry import get_logger

DUE_AT_ONCE = 100

log = get_logger("sessions")


class Sessions:
    """All sessions of all users. Call `load` once before anything else.

    Everything that changes the ledger happens one after another: commit, then memory, then the commands. Only a
    heartbeat that the promise on disk covers passes by. Every method raises StoreError if its commit fails; then no
    state has changed.

    Args:
        devices: how devices are reached.
        on_event: the one subscriber: called for each event, after its commit and in order; see `events.py`.
        memory: the part of the ledger that others read; one of its own if None.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        clock: Clock,
        devices: Devices,
        on_event: OnEvent,
        memory: LedgerMemory | None = None,
    ) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self._memory = memory = memory or LedgerMemory(settings.bridge, clock)
        self.liveness = memory.liveness
        self._outbox = memory.outbox
        self._durable_deadlines = deadlines = DurableDeadlines(memory.liveness, clock)
        self._effects = effects = Effects(clock, memory, devices, on_event)
        self._ledger = ledger = Ledger(store, effects.follow)
        self._device_sessions = loader = DeviceSessionLoader(memory, clock, strict=settings.auth.mode == "required")
        connector = Connector(memory, deadlines, loader, effects, clock)
        self._connect_batcher = ConnectBatcher(ledger, connector.connect, memory.outbox.busy)
        self._http_logouts = HttpLogouts(
            ledger, memory.outbox, effects, devices, clock, self._connect_batcher.post_ended
        )
        self._reports = Reports(
            ledger, memory, deadlines, loader, effects, clock, offline_grace_s=settings.bridge.offline_grace_s
        )

    async def load(self, *, restored: bool = False) -> Loaded:
        """Go on where an earlier run ended; returns what was on disk. `restored`: from a back-up (B6)."""
        loaded = await self._store.load()
        self._memory.active_sessions.load(loaded.sessions)
        now = self._clock.monotonic()
        for row in loaded.pending:
            self._outbox.add(row, now)
        holders = {session.uid for session in loaded.sessions}
        raised = self.liveness.load(
            loaded.seconds, loaded.promises, sorted(holders), loaded.departed, restored=restored
        )
        if raised:
            async with self._ledger.exclusive() as turn, turn.transaction() as transaction:
                await transaction.save(raised)
        log.info("ledger_loaded", sessions=len(loaded.sessions), pending=len(loaded.pending), users=len(self.liveness))
        return loaded

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Log-outs are posted to HTTP devices inside this block; those under way at its end stay in the ledger."""
        async with self._http_logouts.running():
            yield

    @property
    def active(self) -> int:
        """The number of running sessions."""
        return len(self._memory.active_sessions)

    @property
    def waiting(self) -> int:
        """The number of log-outs that no device has confirmed."""
        return len(self._outbox)

    def oldest_logout_s(self, *, online: bool) -> float:
        """Service time that the oldest log-out waits, of devices that are online, or of the others; 0 if none does."""
        return self._outbox.oldest_s(self._clock.monotonic(), self._reports.online, self.liveness.now(), wanted=online)

    def alive(self, uid: str) -> bool:
        """Whether the user connected, sent a heartbeat or logged in within the time-out without a later log-out."""
        return self.liveness.alive(uid)

    def user_of(self, device_id: str) -> str | None:
        """The user logged in on the device."""
        return self._memory.active_sessions.user_of(device_id)

    # Events:

    async def connected(self, uid: str) -> UserData:
        """The user's app connected: extends the deadline, asks devices that claim the user.

        Shares a commit with others who connect.
        """
        return await self._connect_batcher.connected(uid)

    def connect_soon(self, uid: str, on_done: Callable[[UserData | StoreError], None]) -> None:
        """The same for a caller without a task; `on_done` is called once, not before this returns."""
        self._connect_batcher.connect_soon(uid, on_done)

    def try_heartbeat(self, uid: str) -> bool:
        """A heartbeat that the durable deadline covers counts at once; False: call `heartbeat`."""
        return self.liveness.try_heartbeat(uid)

    async def heartbeat(self, uid: str) -> float | None:
        """Extend the deadline.

        Returns seconds until it, or None if the user is not alive (then it must not be answered).

        Answered once the durable deadline covers it: at once, or after a commit that it shares with others (T2).
        """
        if not self.liveness.alive(uid):
            return None
        self.liveness.touch(uid)
        if not self.liveness.covered(uid):
            self._durable_deadlines.want(uid)
            async with self._ledger.exclusive() as turn:
                if not self.liveness.alive(uid):
                    return None  # logged out while this waited
                await self._durable_deadlines.write(turn)
                if not self.liveness.alive(uid):
                    return None  # logged out by another bridge
        return self._settings.bridge.heartbeat_timeout_s

    async def login(self, uid: str, device_id: str, how: str) -> Session:
        """Open a session, replacing another user; counts as a sign of life of a user who was not alive."""
        while True:
            async with self._ledger.exclusive() as turn:
                busy = self._http_logouts.busy([*self._outbox.posted_of(uid), *self._outbox.posted_at(device_id)])
                if not busy:
                    return await self._log_in(turn, uid, device_id, how)
            await self._http_logouts.over(busy[0])

    async def logout(self, uid: str, reason: LogoutReason) -> int:
        """End all sessions of the user; returns how many there were."""
        self._connect_batcher.seal()  # a connection after this makes the user alive
        async with self._ledger.exclusive() as turn:
            return await self._end(turn, {uid: self.liveness.mark_leaving(uid)}, reason)

    async def remove(self, device_id: str, *, give_up: bool) -> int:
        """Remove a device, its user is logged out there; returns how many log-outs it has not confirmed.

        `give_up`: they need no confirmation. Raises NoSuchDeviceError.
        """
        async with self._ledger.exclusive() as turn:
            async with turn.transaction() as transaction:
                device_session = await self._device_sessions.load(transaction, device_id)
                if device_session.device.state == "new":
                    raise NoSuchDeviceError(device_id)
                device_session.remove(give_up=give_up)
                await transaction.save(device_session.changes)
            self._effects.decided([device_session])
        return len(device_session.pending)

    async def reports(self, reports: Sequence[tuple[str, Hello | Ack]]) -> None:
        """Devices reported their state; each device at most once in one call."""
        await self._reports.take(reports)

    def device_status(self, device_id: str, status: DeviceStatus) -> None:
        """The device's status or last will came."""
        self._reports.status(device_id, status)

    def broker_reached(self) -> None:
        """The connection to the broker is up (again)."""
        self._outbox.broker_reached(self._clock.monotonic())

    async def stop(self) -> None:
        """Connect no more users; those who wait get StoreError."""
        await self._connect_batcher.stop()

    async def tick(self, unsaved: list[Change] | None = None) -> None:
        """Log out users who are due, repeat unconfirmed log-outs; call every second or more often.

        Args:
        unsaved: rows of others that are written with this second's; emptied when they are on disk.
        """
        async with self._ledger.exclusive() as turn:
            await turn.look()
            # A post that begins while its user comes back would hit the new session.
            again = self._outbox.due(self._clock.monotonic(), self._reports.online, self.liveness.now())
        for row in again.publish:
            self._effects.publish(row.device_id, [row.command()])
        for row in again.post:
            self._http_logouts.begin(row)
        self.liveness.forget_long_departed()
        idle = not len(self.liveness) and not len(self._outbox) and self._store.problem is None
        if unsaved or self._durable_deadlines.is_time(idle=idle):
            async with self._ledger.exclusive() as turn:
                await self._durable_deadlines.keep_time(turn, [] if unsaved is None else unsaved)
        for row in again.dead:
            await self._http_logouts.take_out(row, "dead", "posted in vain for 24 h")
        while await self._log_out_who_is_due():
            pass

    # Internal:

    async def _log_out_who_is_due(self) -> bool:
        """At most a hundred; False if no user was due."""
        async with self._ledger.exclusive() as turn:
            # Checked in our turn: a user who connected meanwhile is no longer due.
            due = self.liveness.mark_due_leaving(DUE_AT_ONCE)
            if due:
                await self._end(turn, due, "heartbeat_timeout")
        return bool(due)

    async def _log_in(self, turn: LedgerTurn, uid: str, device_id: str, how: str) -> Session:
        async with turn.transaction() as transaction:
            promise = None if self.liveness.alive(uid) else self.liveness.promise(uid)
            device_session = await self._device_sessions.load(transaction, device_id)
            if device_session.device.state == "removed" or (
                self._device_sessions.strict and device_session.device.state == "new"
            ):
                raise NoSuchDeviceError(device_id)
            if self._reports.is_behind(device_id):
                raise DeviceBehindError(device_id)
            session = device_session.open(uid, how)
            rows = self._outbox.posted_of(uid)
            superseded = user_is_back(rows, {device_id}, iso(self._clock.utc_now()))
            durable_deadlines = self._durable_deadlines.dated([promise] if promise else [])
            await transaction.save([*durable_deadlines, *superseded, *device_session.changes])
        if promise is not None:
            self.liveness.begin(promise)
        self._effects.committed(superseded)
        self._effects.decided([device_session])
        if device_session.device.logout_url is None:
            self._effects.poke(device_id, uid)
        return session

    async def _end(self, turn: LedgerTurn, leaving: Mapping[str, float | None], reason: LogoutReason) -> int:
        """End the sessions of users who were removed from the deadlines, with their deadlines; in one transaction."""
        try:
            device_sessions, changes = await self._write_end(turn, leaving, reason)
        except BaseException:
            for uid, deadline in leaving.items():
                if deadline is not None:
                    self.liveness.undo_leaving(uid, deadline)
            raise
        for uid in leaving:
            self.liveness.left(uid)
            self._durable_deadlines.left(uid)
        self._effects.committed(changes)
        self._effects.decided(device_sessions)
        for uid in leaving:
            self._effects.logged_out(uid, reason)
        return len(device_sessions)

    async def _write_end(
        self, turn: LedgerTurn, uids: Collection[str], reason: LogoutReason
    ) -> tuple[list[DeviceSession], list[Change]]:
        changes: list[Change] = []
        at, legacy_url = iso(self._clock.utc_now()), self._settings.legacy.logout_url
        async with turn.transaction() as transaction:
            active = await transaction.active_of(uids)
            theirs = [session.device_id for mine in active.values() for session in mine]
            device_sessions = list(
                (await self._device_sessions.load_all(transaction, dict.fromkeys(theirs, ()))).values()
            )
            for device_session in device_sessions:
                device_session.end(reason)
            for uid, mine in active.items():
                if not mine:
                    changes += without_session(uid, reason, legacy_url, at, self.liveness.now(), new_id)
                changes.append(Departed(uid, self.liveness.now(), reason))
                if reason != "heartbeat_timeout":
                    changes.append(Unsubscribed(uid))  # silence is normal for a sleeping phone: it stays subscribed
            ended = [change for device_session in device_sessions for change in device_session.changes]
            await transaction.save([*ended, *changes])
        return device_sessions, changes


def describe(session: Session) -> dict[str, str]:
    """A session as apps see it."""
    return {"session_id": session.session_id, "device_id": session.device_id}
