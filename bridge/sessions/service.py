"""Carries out the rules of sessions: read rows, decide, commit, then run the effects."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from bridge.cluster.members import Member, members
from bridge.cluster.peers import ALONE, NOT_SEEN, Peers, live_peers
from bridge.sessions.connect import Connector, UserData
from bridge.sessions.connect_batcher import ConnectBatcher
from bridge.sessions.devices import Devices
from bridge.sessions.durable_deadlines import DurableDeadlines
from bridge.sessions.effects import Effects, OnEvent
from bridge.sessions.ending import UserEnder
from bridge.sessions.errors import DeviceBehindError, NoSuchDeviceError
from bridge.sessions.http_logouts import HttpLogouts
from bridge.sessions.ledger import Ledger, LedgerTurn
from bridge.sessions.load import DeviceSessionLoader
from bridge.sessions.memory import LedgerMemory
from bridge.sessions.raising import DeadlineRaiser
from bridge.sessions.reports import Reports
from bridge.sessions.rules.device_session import user_is_back
from bridge.sessions.rules.shared_liveness import SMALLEST_COALESCE_S
from bridge.sessions.shared_time import SharedTime
from bridge.storage.records import TIME_OUT, UNNAMED, By, Change, Session, signed
from bridge.storage.store import Beat, Floors, Loaded, Seen, Store, StoreError
from contract.clock import Clock, iso
from contract.errors import StartError
from contract.messages import Ack, DeviceStatus, Hello, LogoutReason
from infra.settings.loader import Settings
from infra.telemetry import get_logger

DUE_AT_ONCE = 100
AGAIN_S = 0.2
"""While another bridge posts a log-out that a session must not meet."""

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
        beat: what this bridge tells others of itself at each look, if the ledger is shared.

    Attributes:
        peers: the bridges on this ledger that are alive, as of the last look.
        looked_at: monotonic time at which the last look that succeeded began: what others committed before is known.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        clock: Clock,
        devices: Devices,
        on_event: OnEvent,
        memory: LedgerMemory | None = None,
        beat: Callable[[], Beat] = Beat,
    ) -> None:
        self.peers: Peers = NOT_SEEN if store.shared else ALONE
        self.looked_at = float("-inf")
        self._seen: Seen | None = None
        self._beat = beat
        self._store = store
        self._settings = settings
        self._clock = clock
        self._memory = memory = memory or LedgerMemory(settings.bridge, clock, shared=store.shared)
        self.liveness = memory.liveness
        self._outbox = memory.outbox
        self._durable_deadlines = deadlines = DurableDeadlines(memory.liveness, clock, shared=store.shared)
        self._effects = effects = Effects(clock, memory, devices, on_event)
        self._ledger = ledger = Ledger(store, effects.follow, clock, self._on_time)
        self._device_sessions = loader = DeviceSessionLoader(memory, clock, strict=settings.auth.mode == "required")
        connector = Connector(memory, deadlines, loader, effects, clock)
        self._connect_batcher = ConnectBatcher(
            ledger, connector.connect, memory.outbox.busy, AGAIN_S if store.shared else 0.0
        )
        self._http_logouts = HttpLogouts(
            ledger, memory.outbox, effects, devices, clock, self._connect_batcher.post_ended, memory.shared
        )
        self._reports = Reports(
            ledger, memory, deadlines, loader, effects, clock, offline_grace_s=settings.bridge.offline_grace_s
        )

        shared = memory.shared
        self._promises_for_s = settings.bridge.heartbeat_timeout_s + settings.bridge.heartbeat_coalesce_s
        self._raiser = None if shared is None else DeadlineRaiser(store, shared, self._promises_for_s)
        self._ender = UserEnder(memory, deadlines, loader, effects, clock, settings.legacy.logout_url)
        self._shared_time = None if shared is None else SharedTime(ledger, shared, self._ender, clock, self._floors())

    async def load(self, *, restored: bool = False) -> Loaded:
        """Go on where an earlier run ended; returns what was on disk. `restored`: from a back-up (B6).

        Raises StoreError; StartError if this bridge may not share the ledger with those that run.
        """
        shared = self._memory.shared
        if shared is not None:
            await self._attach(restored=restored)
        asked_at = self._clock.monotonic()
        loaded = await self._store.load()
        self._memory.active_sessions.load(loaded.sessions, None if shared is None else loaded.earlier)
        now = self._clock.monotonic()
        for row in loaded.pending:
            self._outbox.add(row, now)
        if shared is None:
            await self._load_deadlines(loaded, restored=restored)
        else:
            shared.load_shared(loaded.seconds, loaded.promises, loaded.departed, asked_at)
        log.info("ledger_loaded", sessions=len(loaded.sessions), pending=len(loaded.pending), users=len(self.liveness))
        return loaded

    async def _load_deadlines(self, loaded: Loaded, *, restored: bool) -> None:
        holders = {session.uid for session in loaded.sessions}
        raised = self.liveness.load(
            loaded.seconds, loaded.promises, sorted(holders), loaded.departed, restored=restored
        )
        if raised:
            async with self._ledger.exclusive() as turn, turn.transaction() as transaction:
                await transaction.save(raised)

    async def _attach(self, *, restored: bool) -> None:
        coalesce_s = self._settings.bridge.heartbeat_coalesce_s
        if coalesce_s < SMALLEST_COALESCE_S:
            raise StartError(
                f"bridge.heartbeat_coalesce_s = {coalesce_s:g}: where the ledger is in PostgreSQL, and several bridges "
                f"may share it, it is {SMALLEST_COALESCE_S:g} or more"
            )
        await self._store.attach(self._floors(), restored=restored)

    def _floors(self) -> Floors:
        bridge = self._settings.bridge
        return Floors(bridge.restart_grace_s, bridge.expiry_spread_s, self._promises_for_s)

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

    def waiting_at(self, uid: str) -> list[str]:
        """The devices that have not confirmed a log-out of this user."""
        return self._outbox.waiting_at(uid)

    async def claims(self, uid: str) -> list[str]:
        """The devices that are to log in this user."""
        async with self._ledger.exclusive() as turn, turn.transaction() as transaction:
            return [device.device_id for device in (await transaction.claimed_by([uid]))[uid]]

    def oldest_logout_s(self, *, online: bool) -> float:
        """Service time that the oldest log-out waits, of devices that are online, or of the others; 0 if none does."""
        return self._outbox.oldest_s(self._clock.monotonic(), self._reports.online, self.liveness.now(), wanted=online)

    def alive(self, uid: str) -> bool:
        """Whether the user connected, sent a heartbeat or logged in within the time-out without a later log-out."""
        return self.liveness.alive(uid)

    def user_of(self, device_id: str) -> str | None:
        """The user logged in on the device."""
        return self._memory.active_sessions.user_of(device_id)

    def device_online(self, device_id: str) -> bool:
        """Whether the device is there, as far as it and its last will say."""
        return self._reports.online(device_id, self._clock.monotonic())

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
        if self._raiser is not None:
            there = self.liveness.try_heartbeat(uid) or await self._raiser.raised(uid)
            return self._settings.bridge.heartbeat_timeout_s if there else None
        if not self.liveness.alive(uid):
            return None
        self.liveness.touch(uid)
        if not self.liveness.covered(uid):
            self._durable_deadlines.want(uid)
            async with self._ledger.exclusive() as turn:
                if not self.liveness.alive(uid):
                    return None  # logged out while this waited
                await self._durable_deadlines.write(turn)
        return self._settings.bridge.heartbeat_timeout_s

    async def login(self, uid: str, device_id: str, how: str, by: By = UNNAMED) -> Session:
        """Open a session, replacing another user; counts as a sign of life of a user who was not alive."""
        while True:
            async with self._ledger.exclusive() as turn:
                busy = self._http_logouts.busy([*self._outbox.posted_of(uid), *self._outbox.posted_at(device_id)])
                session = None if busy else await self._log_in(turn, uid, device_id, how, by)
            if session is not None:
                return session
            if busy:
                await self._http_logouts.over(busy[0])
            else:
                await self._clock.sleep(AGAIN_S)

    async def logout(self, uid: str, reason: LogoutReason, by: By = UNNAMED) -> int:
        """End all sessions of the user; returns how many there were."""
        self._connect_batcher.seal()  # a connection after this makes the user alive
        async with self._ledger.exclusive() as turn:
            return await self._end(turn, {uid: self.liveness.mark_leaving(uid)}, reason, by)

    async def remove(self, device_id: str, *, give_up: bool, by: By = UNNAMED) -> int:
        """Remove a device, its user is logged out there; returns how many log-outs it has not confirmed.

        `give_up`: they need no confirmation. Raises NoSuchDeviceError.
        """
        async with self._ledger.exclusive() as turn:
            async with turn.transaction() as transaction:
                device_session = await self._device_sessions.load(transaction, device_id)
                if device_session.device.state == "new":
                    raise NoSuchDeviceError(device_id)
                device_session.remove(give_up=give_up)
                await transaction.save(signed(device_session.changes, by))
            self._effects.decided([device_session])
        return len(device_session.pending)

    async def reports(self, reports: Sequence[tuple[str, Hello | Ack]], *, waited: bool = False) -> None:
        """Devices reported their state; each device at most once in one call. `waited`: see Reports."""
        await self._reports.take(reports, waited=waited)

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
            await self._look(turn)
            # A post that begins while its user comes back would hit the new session.
            again = self._outbox.due(
                self._clock.monotonic(), self._reports.online, self.liveness.now(), self._is_first_for
            )
        for row in again.publish:
            self._effects.publish(row.device_id, [row.command()])
        for row in again.post:
            self._http_logouts.begin(row)
        self.liveness.forget_long_departed()
        if self._shared_time is None:
            await self._keep_time(unsaved)
        else:
            await self._shared_time.advance([] if unsaved is None else unsaved)
        for row in again.dead:
            await self._http_logouts.take_out(row, "dead", "posted in vain for 24 h")
        if self._shared_time is None:
            while await self._log_out_who_is_due():
                pass

    @property
    def turn(self) -> int:
        """The number of this bridge's last turn, if the ledger is shared: memory knows all turns before it."""
        return self._ledger.turn

    @property
    def follows(self) -> bool:
        """Whether the event that is told now is of another bridge's doing."""
        return self._effects.follows

    def members(self, sockets: int) -> list[Member]:
        """The bridges of a shared ledger as of the last look; none if it is not shared. `sockets`: of this one."""
        seen = self._seen
        return [] if seen is None else members(self._settings.bridge.instance, sockets, seen.bridges, seen.seconds)

    async def look(self) -> None:
        """Follow what other bridges changed, now and not at the next tick; raises StoreError."""
        async with self._ledger.exclusive() as turn:
            await self._look(turn)

    # Internal:

    async def _look(self, turn: LedgerTurn) -> None:
        looked_at = self._clock.monotonic()
        seen = await turn.look(self._beat())
        if seen is not None:
            self.looked_at = looked_at
            self._seen = seen
            self.peers = live_peers(self._settings.bridge.instance, seen.bridges, seen.seconds)

    def _is_first_for(self, device_id: str) -> bool:
        return self.peers.rank(device_id) == 0

    def _on_time(self, seconds: float, asked_at: float) -> None:
        if self._shared_time is not None:
            self._shared_time.seen(seconds, asked_at)

    async def _keep_time(self, unsaved: list[Change] | None) -> None:
        idle = not len(self.liveness) and not len(self._outbox) and self._store.problem is None
        if unsaved or self._durable_deadlines.is_time(idle=idle):
            async with self._ledger.exclusive() as turn:
                await self._durable_deadlines.keep_time(turn, [] if unsaved is None else unsaved)

    async def _log_out_who_is_due(self) -> bool:
        """At most a hundred; False if no user was due."""
        async with self._ledger.exclusive() as turn:
            # Checked in our turn: a user who connected meanwhile is no longer due.
            due = self.liveness.mark_due_leaving(DUE_AT_ONCE)
            if due:
                await self._end(turn, due, "heartbeat_timeout", TIME_OUT)
        return bool(due)

    async def _log_in(self, turn: LedgerTurn, uid: str, device_id: str, how: str, by: By) -> Session | None:
        """None: another bridge posts a log-out that the session must not meet."""
        async with turn.transaction() as transaction:
            posted = {row.device_id for row in (*self._outbox.posted_of(uid), *self._outbox.posted_at(device_id))}
            if posted and self._memory.shared is not None and await transaction.posting_elsewhere(posted):
                return None
            users = await self._memory.users(transaction, [uid])
            promise = None if users.alive(uid) else self.liveness.promise(uid)
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
            await transaction.save([*durable_deadlines, *signed([*superseded, *device_session.changes], by)])
        if promise is not None:
            self.liveness.begin(promise)
        self._effects.committed(superseded)
        self._effects.decided([device_session])
        if device_session.device.logout_url is None:
            self._effects.poke(device_id, uid)
        return session

    async def _end(self, turn: LedgerTurn, leaving: Mapping[str, float | None], reason: LogoutReason, by: By) -> int:
        """End the sessions of users who were removed from the deadlines, with their deadlines; in one transaction."""
        try:
            async with turn.transaction() as transaction:
                ended = await self._ender.write(transaction, leaving, reason, by)
        except BaseException:
            for uid, deadline in leaving.items():
                if deadline is not None:
                    self.liveness.undo_leaving(uid, deadline)
            raise
        self._ender.ended(leaving, ended, reason)
        return len(ended.device_sessions)


def describe(session: Session) -> dict[str, str]:
    """A session as apps see it."""
    return {"session_id": session.session_id, "device_id": session.device_id}
