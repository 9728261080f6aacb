"""Carries out the ledger's rules: reads rows, lets the rules decide, commits, and only then tells the world."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence

from prometheus_client import Counter

from bridge.announcer import Announcer
from bridge.arrivals import Arrivals
from bridge.connecting import Connecting
from bridge.desks import Desks
from bridge.holders import Holders
from bridge.ledger import Desk, settle, user_is_back, without_session
from bridge.outbox import Outbox
from bridge.people import People
from bridge.presence import Presence
from bridge.promises import Promises
from bridge.rewinds import Rewinds
from bridge.rows import AuditEvent, Change, Departed, PendingLogout, Promise, Session, Unsubscribed
from bridge.store import Loaded, Store, StoreError, Transaction
from contract.clock import Clock, iso
from contract.errors import SarvisError
from contract.messages import Ack, DeviceStatus, Hello, LogoutReason, Message, new_id
from contract.sections.bridge import BridgeSettings
from contract.telemetry import REGISTRY, get_logger
from contract.topics import Topic

DUE_AT_ONCE = 100
BEHIND = "runs with an older copy of its state; update the software on it, or delete its state file there"

BEHIND_REPORTS = Counter(
    "sarvis_reports_behind_total", "Reports that were older than what is known of their device", registry=REGISTRY
)

log = get_logger("sessions")


class NoSuchDeviceError(SarvisError):
    """No operator has added this device, or one has removed it.

    Attributes:
        device_id: its name.
    """

    def __init__(self, device_id: str) -> None:
        super().__init__(f"there is no device {device_id}; an operator adds it with `sarvis device add`")
        self.device_id = device_id


class DeviceBehindError(SarvisError):
    """The device runs with an older copy of its state and does not go beyond: it would not hear of a log-in.

    Attributes:
        device_id: its name.
    """

    def __init__(self, device_id: str) -> None:
        super().__init__(f"{device_id} {BEHIND}")
        self.device_id = device_id


async def _nothing_under_way(_device_id: str) -> None:
    """For a bridge without HTTP devices."""


class Sessions:
    """All sessions of all users. Call `load` once before anything else.

    Everything that changes the ledger happens one after another: commit, then memory, then the commands. Only a
    heartbeat that the promise on disk covers passes by. Every verb raises StoreError when it could not be stored; then
    nothing of it is so.

    Args:
        send: publishes a message to a device; False when no broker is reached.
        on_opened: a session is in the ledger.
        on_ended: a session ended in the ledger.
        on_gone: a user is logged out everywhere; called after the commit and the commands.
        post: begins to post a log-out to an HTTP device; ends with `posted`.
        post_over: waits until no post to this device is under way.
        legacy_url: the log-out URL of the first guide's one device.
        strict: credentials are required, for devices, too.
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
        on_opened: Callable[[Session], None] = lambda _session: None,
        post: Callable[[PendingLogout], None] = lambda _row: None,
        post_over: Callable[[str], Awaitable[None]] = _nothing_under_way,
        legacy_url: str | None = None,
        strict: bool = False,
    ) -> None:
        self.people = People(settings, clock)
        self._store = store
        self._settings = settings
        self._clock = clock
        self._on_gone = on_gone
        self._post = post
        self._post_over = post_over
        self._legacy_url = legacy_url
        self._presence = Presence(settings.offline_grace_s)
        self._rewinds = Rewinds()
        self._outbox = Outbox()
        self._holders = Holders()
        self._promises = Promises(self.people, store, clock)
        self._announce = Announcer(
            clock, self._holders, self._outbox, send=send, on_opened=on_opened, on_ended=on_ended
        )
        self._desks = Desks(self.people, self._holders, clock, strict=strict)
        connecting = Connecting(store, self.people, self._promises, self._outbox, self._desks, self._announce, clock)
        self._one = asyncio.Lock()
        self._arrivals = Arrivals(self._one, connecting.connect, self._outbox.busy)

    async def load(self, *, restored: bool = False) -> Loaded:
        """Go on where an earlier run ended; returns what was on disk. `restored`: from a back-up (B6)."""
        loaded = await self._store.load()
        self._holders.load(loaded.sessions)
        now = self._clock.monotonic()
        for row in loaded.pending:
            self._outbox.add(row, now)
        holders = {session.uid for session in loaded.sessions}
        raised = self.people.load(loaded.seconds, loaded.promises, sorted(holders), restored=restored)
        if raised:
            async with self._store.transaction() as transaction:
                await transaction.save(raised)
        log.info("ledger_loaded", sessions=len(loaded.sessions), pending=len(loaded.pending), users=len(self.people))
        return loaded

    @property
    def running(self) -> int:
        """How many sessions run."""
        return len(self._holders)

    @property
    def waiting(self) -> int:
        """How many log-outs no device has confirmed."""
        return len(self._outbox)

    def alive(self, uid: str) -> bool:
        """Connected, beating or logged in within the time-out, and not logged out since."""
        return self.people.alive(uid)

    def user_of(self, device_id: str) -> str | None:
        """Who is logged in on the device."""
        return self._holders.user_of(device_id)

    # What happens

    async def connected(self, uid: str) -> list[dict[str, str]]:
        """The user's app connected: extends the deadline, asks devices that claim the user; returns their sessions.

        Shares a commit with others who connect.
        """
        return [describe(session) for session in await self._arrivals.connected(uid)]

    def connect_soon(self, uid: str, on_done: Callable[[list[dict[str, str]] | StoreError], None]) -> None:
        """The same for a caller without a task; `on_done` is called once, not before this returns."""

        def done(answer: list[Session] | StoreError) -> None:
            on_done(answer if isinstance(answer, StoreError) else [describe(session) for session in answer])

        self._arrivals.connect_soon(uid, done)

    def beat(self, uid: str) -> bool:
        """A heartbeat that the promise on disk covers counts at once; False: `heartbeat` is needed."""
        return self.people.beat(uid)

    async def heartbeat(self, uid: str) -> float | None:
        """Extend the deadline; seconds until it, or None when the user is not alive (then it must not be answered).

        Answered when the promise on disk covers it: at once, or after a commit that it shares with others (T2).
        """
        if not self.people.alive(uid):
            return None
        self.people.heard(uid)
        if not self.people.covered(uid):
            self._promises.want(uid)
            async with self._one:
                if not self.people.alive(uid):
                    return None  # logged out while this waited
                await self._promises.write()
        return self._settings.heartbeat_timeout_s

    async def login(self, uid: str, device_id: str, how: str) -> Session:
        """Open a session, whoever was in; counts as a sign of life of a user who was not alive."""
        while True:
            async with self._one:
                busy = self._busy([*self._outbox.posted_of(uid), *self._outbox.posted_at(device_id)])
                if not busy:
                    return await self._log_in(uid, device_id, how)
            await self._post_over(busy[0])

    async def logout(self, uid: str, reason: LogoutReason) -> int:
        """End all sessions of the user; returns how many there were."""
        self._arrivals.seal()  # whoever connects after this lives
        async with self._one:
            return await self._end({uid: self.people.take(uid)}, reason)

    async def remove(self, device_id: str, *, give_up: bool) -> int:
        """Take a device out, its user is logged out there; how many log-outs it has not confirmed.

        `give_up`: they need no confirmation any more. Raises NoSuchDeviceError.
        """
        async with self._one:
            async with self._store.transaction() as transaction:
                desk = await self._desks.read(transaction, device_id)
                if desk.device.state == "new":
                    raise NoSuchDeviceError(device_id)
                desk.remove(give_up=give_up)
                await transaction.save(desk.changes)
            self._announce.decided([desk])
        return len(desk.pending)

    async def reports(self, reports: Sequence[tuple[str, Hello | Ack]]) -> None:
        """Devices said where they stand; each device at most once in one call."""
        async with self._one:
            desks: list[Desk] = []
            promises: dict[str, Promise] = {}
            async with self._store.transaction() as transaction:
                for device_id, report in reports:
                    desk = await self._answer(transaction, device_id, report)
                    await transaction.save(desk.changes)
                    desks.append(desk)
                    if desk.adopted is not None and not self.people.alive(desk.adopted.uid):
                        promises[desk.adopted.uid] = self.people.promise(desk.adopted.uid)
                await transaction.save(self._promises.dated(promises.values()))
            for promise in promises.values():
                self._lives(promise.uid, promise)
            self._announce.decided(desks)
        for desk, (_, report) in zip(desks, reports, strict=True):
            self._place(desk, report)

    async def report(self, device_id: str, report: Hello | Ack) -> None:
        """One device said where it stands."""
        await self.reports([(device_id, report)])

    def device_status(self, device_id: str, status: DeviceStatus) -> None:
        """The device's status or last will came."""
        if status.state == "online":
            self._there(device_id, status.boot)
        else:
            self._presence.gone(device_id, status.boot, self._clock.monotonic())

    def broker_reached(self) -> None:
        """The connection to the broker stands (again)."""
        self._outbox.broker_reached(self._clock.monotonic())

    async def posted(self, row: PendingLogout, problem: str | None) -> None:
        """A post to an HTTP device ended: it obeyed, or `problem` says why not."""
        taken = False
        try:
            if problem is None:
                await self._take_out(row, "settled", "posted")
                taken = True
        finally:
            # What was obeyed but could not be noted is posted again, as rarely as what was not.
            self._outbox.posted(row.device_id, self._clock.monotonic(), taken=taken)
            self._arrivals.post_ended(row.device_id)

    async def stop(self) -> None:
        """Nobody connects any more; whoever waits for it is told StoreError."""
        await self._arrivals.stop()

    async def tick(self, unsaved: Sequence[Change] = ()) -> None:
        """Log out who is due, send again what nobody confirmed; call every second or oftener.

        Args:
            unsaved: rows of others that go to disk with this second's.
        """
        async with self._one:
            # A post that begins while its user comes back would hit the session that is being opened.
            again = self._outbox.due(self._clock.monotonic(), self._presence.online, self.people.now())
        for row in again.publish:
            self._announce.publish(row.device_id, [row.command()])
        for row in again.post:
            self._post(row)
        self.people.forget_long_departed()
        idle = not len(self.people) and not len(self._outbox) and self._store.problem is None
        if unsaved or self._promises.is_time(idle=idle):
            async with self._one:
                await self._promises.keep_time(unsaved)
        for row in again.dead:
            await self._take_out(row, "dead", "posted in vain for 24 h")
        while await self._log_out_who_is_due():
            pass

    # How

    async def _log_out_who_is_due(self) -> bool:
        """A hundred at the most; False when nobody was due."""
        async with self._one:
            # Looked up in our turn: whoever connects while others are served is not due any more.
            due = self.people.take_due(DUE_AT_ONCE)
            if due:
                await self._end(due, "heartbeat_timeout")
        return bool(due)

    def _place(self, desk: Desk, report: Hello | Ack) -> None:
        """Where a report stands among those of its device; one that is late says nothing of where the device is."""
        device = desk.device
        if desk.is_behind:
            BEHIND_REPORTS.inc()
            now = self._clock.monotonic()
            if isinstance(report, Hello) and self._rewinds.older(device.device_id, device.boot, now):
                log.warning(
                    "device_behind", device_id=device.device_id, boot=report.boot, known_boot=device.boot, advice=BEHIND
                )
            return
        if self._rewinds.believed(device.device_id, report.boot):
            log.warning(
                "device_state_went_back",
                device_id=device.device_id,
                boot=report.boot,
                advice="it had an older copy of its state (a restored card, a snapshot) and has gone beyond",
            )
        self._there(device.device_id, report.boot)

    def _there(self, device_id: str, boot: int) -> None:
        self._presence.seen(device_id, boot)
        self._outbox.awake(device_id, self._clock.monotonic())

    async def _log_in(self, uid: str, device_id: str, how: str) -> Session:
        promise = None if self.people.alive(uid) else self.people.promise(uid)
        async with self._store.transaction() as transaction:
            desk = await self._desks.read(transaction, device_id)
            if desk.device.state == "removed" or (self._desks.strict and desk.device.state == "new"):
                raise NoSuchDeviceError(device_id)
            if self._rewinds.stuck(device_id):
                raise DeviceBehindError(device_id)
            session = desk.open(uid, how)
            rows = self._outbox.posted_of(uid)
            superseded = user_is_back(rows, {device_id}, iso(self._clock.utc_now()))
            promises = self._promises.dated([promise] if promise else [])
            await transaction.save([*promises, *superseded, *desk.changes])
        if promise is not None:
            self._lives(uid, promise)
        self._announce.committed(superseded)
        self._announce.decided([desk])
        if desk.device.logout_url is None:
            self._announce.poke(device_id, uid)
        return session

    async def _end(self, leaving: Mapping[str, float | None], reason: LogoutReason) -> int:
        """End the sessions of users who were taken out of the deadlines, which are given; in one transaction."""
        try:
            desks, changes = await self._write_end(leaving, reason)
        except BaseException:
            for uid, deadline in leaving.items():
                if deadline is not None:
                    self.people.put_back(uid, deadline)
            raise
        for uid in leaving:
            self.people.left(uid)
            self._promises.left(uid)
        self._announce.committed(changes)
        self._announce.decided(desks)
        for uid in leaving:
            log.info("user_logged_out", uid=uid, reason=reason)
            self._on_gone(uid, reason)
        return len(desks)

    async def _write_end(self, uids: Collection[str], reason: LogoutReason) -> tuple[list[Desk], list[Change]]:
        desks: list[Desk] = []
        changes: list[Change] = []
        at = iso(self._clock.utc_now())
        async with self._store.transaction() as transaction:
            for uid, mine in (await transaction.active_of(uids)).items():
                for session in mine:
                    desk = await self._desks.read(transaction, session.device_id)
                    desk.end(reason)
                    await transaction.save(desk.changes)
                    desks.append(desk)
                if not mine:
                    changes += without_session(uid, reason, self._legacy_url, at, self.people.now(), new_id)
                changes.append(Departed(uid))
                if reason != "heartbeat_timeout":
                    changes.append(Unsubscribed(uid))  # silence is what a sleeping phone does: it stays subscribed
            await transaction.save(changes)
        return desks, changes

    async def _answer(self, transaction: Transaction, device_id: str, report: Hello | Ack) -> Desk:
        named = {entry.session_id for entry in report.ended}
        if report.session_id is not None:
            named.add(report.session_id)
        desk = await self._desks.read(transaction, device_id, named)
        desk.answer(report, report.nonce if isinstance(report, Hello) else None, self.people)
        return desk

    def _busy(self, rows: Iterable[PendingLogout]) -> list[str]:
        """HTTP devices with a post under way: it must end before a session begins that it could hit."""
        return [row.device_id for row in rows if self._outbox.busy(row.device_id)]

    async def _take_out(self, row: PendingLogout, event: AuditEvent, reason: str) -> None:
        changes = settle(row, event, reason, iso(self._clock.utc_now()))
        async with self._one:
            if row not in self._outbox.posted_at(row.device_id):
                return  # its user came back meanwhile
            async with self._store.transaction() as transaction:
                await transaction.save(changes)
            self._announce.committed(changes)

    def _lives(self, uid: str, promise: Promise) -> None:
        self.people.promised(promise)
        self.people.heard(uid)


def describe(session: Session) -> dict[str, str]:
    """A session as apps see it."""
    return {"session_id": session.session_id, "device_id": session.device_id}
