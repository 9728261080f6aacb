"""A ledger in memory with the interface of the real one, and failures on demand."""

from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TypeVar

from bridge.storage.news import News
from bridge.storage.records import (
    LEAVING,
    ApiKey,
    Audit,
    Change,
    Departed,
    Device,
    DurableDeadline,
    Forgotten,
    Lifetime,
    Missed,
    MissedTold,
    PendingLogout,
    PushSubscription,
    ServiceSeconds,
    Session,
    Settled,
    Unsubscribed,
)
from bridge.storage.store import Beat, Floors, Loaded, Seen, StoreError, Transaction

Row = TypeVar("Row")


@dataclass
class Tables:
    """The stored tables."""

    devices: dict[str, Device] = field(default_factory=dict)
    sessions: dict[str, Session] = field(default_factory=dict)
    pending: dict[tuple[str, str], PendingLogout] = field(default_factory=dict)
    promises: dict[str, DurableDeadline] = field(default_factory=dict)
    departed: dict[str, float] = field(default_factory=dict)
    missed: list[Missed] = field(default_factory=list)
    subscriptions: list[PushSubscription] = field(default_factory=list)
    audit: deque[Audit] = field(default_factory=lambda: deque(maxlen=10_000))
    seconds: float = 0.0
    claims: dict[tuple[str, str], tuple[str, float]] = field(default_factory=dict)
    """Who posts a log-out, and until when."""
    named: set[str] = field(default_factory=set)
    """What bridges have claimed."""

    def copy(self) -> "Tables":
        """A copy of these tables."""
        return Tables(
            dict(self.devices),
            dict(self.sessions),
            dict(self.pending),
            dict(self.promises),
            dict(self.departed),
            list(self.missed),
            list(self.subscriptions),
            self.audit.copy(),
            self.seconds,
            dict(self.claims),
            set(self.named),
        )

    def apply(self, change: Change) -> None:  # noqa: C901 - one line for each kind of row
        """Write changes to these tables."""
        match change:
            case Device():
                self.devices[change.device_id] = change
            case Session():
                self._apply_session(change)
            case PendingLogout():
                self.pending[change.device_id, change.session_id] = change
            case Settled():
                self.pending.pop((change.device_id, change.session_id), None)
                self.claims.pop((change.device_id, change.session_id), None)
            case DurableDeadline():
                self._promise(change)
            case Departed():
                self.promises.pop(change.uid, None)
                self.departed[change.uid] = change.left_s
            case ServiceSeconds():
                self.seconds = max(self.seconds, change.seconds)
            case Missed():
                self._miss(change)
            case MissedTold():
                self.missed = [missed for missed in self.missed if missed.id != change.id]
            case PushSubscription():
                self.subscriptions = [one for one in self.subscriptions if one.endpoint != change.endpoint] + [change]
            case Unsubscribed():
                self.subscriptions = [one for one in self.subscriptions if not change.is_of(one)]
            case Audit():
                self.audit.append(change)

    def _miss(self, wake: Missed) -> None:
        if all(missed.id != wake.id for missed in self.missed):
            self.missed.append(wake)
        mine = [missed for missed in self.missed if missed.uid == wake.uid]
        for old in mine[:-20]:
            self.missed.remove(old)

    def _promise(self, promise: DurableDeadline) -> None:
        self.departed.pop(promise.uid, None)
        known = self.promises.get(promise.uid)
        if known is not None and known.until_s > promise.until_s:
            promise = replace(promise, until_s=known.until_s)
        self.promises[promise.uid] = promise

    def _apply_session(self, session: Session) -> None:
        old = self.sessions.get(session.session_id)
        if session.ended is None:
            running = self.running(session.device_id)
            if old is not None or running is not None:
                raise StoreError("a second session on the device, or one of this id")
        elif old is None or old.ended is not None:
            raise StoreError("another transaction ended it at the same time")
        self.sessions[session.session_id] = session

    def lifetime(self, uid: str) -> Lifetime | None:
        """Until when the user is there, or when the user left."""
        if uid in self.departed:
            return Lifetime(0.0, self.departed[uid])
        return Lifetime(self.promises[uid].until_s) if uid in self.promises else None

    def is_there(self, uid: str) -> bool:
        """Whether the user's deadline is not over."""
        return uid in self.promises and self.promises[uid].until_s > self.seconds

    def subscriptions_of(self, uids: Collection[str]) -> dict[str, list[PushSubscription]]:
        """The phones of these users in these tables."""
        return {uid: [phone for phone in self.subscriptions if phone.uid == uid] for uid in uids}

    def running(self, device_id: str) -> Session | None:
        """The running sessions in these tables."""
        for session in self.sessions.values():
            if session.device_id == device_id and session.ended is None:
                return session
        return None


class MemoryStore:
    """See Store. `fail` is the reason why the next commits fail; `before_commit` may raise to simulate a crash."""

    shared = False
    era = ""

    def __init__(self) -> None:
        self.tables = Tables()
        self.fail: str | None = None
        self.before_commit: Callable[[], None] = lambda: None
        self.problem: str | None = None
        self.prunes = 0
        self.keys: dict[str, ApiKey] = {}

    @property
    def audit(self) -> list[Audit]:
        """See `Store.audit`."""
        return list(self.tables.audit)

    @asynccontextmanager
    async def transaction(self, *, with_news: bool = False) -> AsyncIterator[Transaction]:
        """See `Store.transaction`."""
        del with_news
        tables = self.tables.copy()
        yield MemoryTransaction(tables)
        self.before_commit()
        if self.fail is not None:
            self.problem = self.fail
            raise StoreError(self.fail)
        self.problem = None
        self.tables = tables

    async def attach(self, floors: Floors, *, restored: bool) -> None:
        """See `Store.attach`."""

    async def other_bridges(self) -> list[str]:
        """See `Store.other_bridges`."""
        return []

    async def look(self, beat: Beat) -> Seen | None:
        """See `Store.look`."""
        del beat
        return None

    async def raise_deadlines(self, uids: Collection[str], for_s: float) -> dict[str, float]:
        """See `Store.raise_deadlines`."""
        if self.fail is not None:
            self.problem = self.fail
            raise StoreError(self.fail)
        there = [uid for uid in uids if uid in self.tables.promises]
        for uid in there:
            self.tables.apply(DurableDeadline(uid, self.tables.seconds + for_s))
        return {uid: self.tables.promises[uid].until_s for uid in there}

    async def claim(self, names: Collection[str]) -> set[str]:
        """See `Store.claim`."""
        if not self.shared:
            return set(names)
        mine = set(names) - self.tables.named
        self.tables.named |= mine
        return mine

    async def present(self, uids: Collection[str]) -> set[str]:
        """See `Store.present`."""
        return {uid for uid in uids if self.tables.is_there(uid)}

    async def load(self) -> Loaded:
        """See `Store.load`."""
        tables = self.tables
        return Loaded(
            tables.seconds,
            [session for session in tables.sessions.values() if session.ended is None],
            list(tables.pending.values()),
            list(tables.promises.values()),
            dict(tables.departed),
            left=[
                line for line in reversed(tables.audit) if line.event in {"ended", "left"} and line.reason in LEAVING
            ],
        )

    async def subscriptions(self, uids: Collection[str]) -> dict[str, list[PushSubscription]]:
        """See `Store.subscriptions`."""
        return self.tables.subscriptions_of(uids)

    async def count_subscriptions(self) -> int:
        """See `Store.count_subscriptions`."""
        return len(self.tables.subscriptions)

    async def api_keys(self) -> list[ApiKey]:
        """See `Store.api_keys`."""
        return list(self.keys.values())

    async def keys_used(self, used: Mapping[str, float]) -> None:
        """See `Store.keys_used`."""
        known = {key_id: at for key_id, at in used.items() if key_id in self.keys}
        self.keys |= {key_id: replace(self.keys[key_id], used_at=at) for key_id, at in known.items()}

    async def forget(self, uid: str, name: str) -> Forgotten:
        """See `Store.forget`."""
        tables, actor = self.tables, f"app:{uid}"
        audit = sum(uid == line.uid or line.actor == actor for line in tables.audit)
        for at, line in enumerate(tables.audit):
            tables.audit[at] = replace(
                line,
                uid=name if line.uid == uid else line.uid,
                actor=f"app:{name}" if line.actor == actor else line.actor,
                note="" if line.uid == uid else line.note,
            )
        return Forgotten(audit=audit)

    async def removed(self) -> set[str]:
        """See `Store.removed`."""
        return {device.device_id for device in self.tables.devices.values() if device.state == "removed"}

    async def prune(self, departed_before_s: float) -> None:
        """See `Store.prune`."""
        self.prunes += 1
        left = self.tables.departed
        self.tables.departed = {uid: at for uid, at in left.items() if at >= departed_before_s}


class MemoryTransaction:
    """See Transaction."""

    def __init__(self, tables: Tables, news: Sequence[News] = (), number: int = 0, run: str = "") -> None:
        self.news = news
        self.number = number
        self._run = run
        self._tables = tables

    @property
    def seconds(self) -> float:
        """See `Transaction.seconds`."""
        return self._tables.seconds

    async def lifetimes(self, uids: Collection[str]) -> dict[str, Lifetime]:
        """See `Transaction.lifetimes`."""
        found = {uid: self._tables.lifetime(uid) for uid in uids}
        return {uid: lifetime for uid, lifetime in found.items() if lifetime is not None}

    async def due(self, seconds: float, most: int) -> list[str]:
        """See `Transaction.due`."""
        promises = sorted(self._tables.promises.values(), key=lambda promise: promise.until_s)
        return [promise.uid for promise in promises if promise.until_s <= seconds][:most]

    async def raise_floors(self, floors: Floors) -> None:
        """See `Transaction.raise_floors`."""
        for promise in list(self._tables.promises.values()):
            if not promise.floored and promise.until_s < self.seconds + floors.grace_s:
                floor = DurableDeadline(promise.uid, self.seconds + floors.grace_s + floors.spread_s, floored=True)
                self._tables.apply(floor)

    async def claim_post(self, row: PendingLogout, until_s: float) -> bool:
        """See `Transaction.claim_post`."""
        key = row.device_id, row.session_id
        if key not in self._tables.pending or self._tables.claims.get(key, ("", 0.0))[1] > self.seconds:
            return False
        self._tables.claims[key] = self._run, until_s
        return True

    async def posting_elsewhere(self, device_ids: Collection[str]) -> set[str]:
        """See `Transaction.posting_elsewhere`."""
        return {
            device_id
            for (device_id, _), (run, until_s) in self._tables.claims.items()
            if device_id in device_ids and run != self._run and until_s > self.seconds
        }

    async def devices(self, device_ids: Collection[str]) -> dict[str, Device]:
        """See `Transaction.devices`."""
        return {name: self._tables.devices.get(name) or Device(name, state="new") for name in device_ids}

    async def active(self, device_ids: Collection[str]) -> dict[str, Session]:
        """See `Transaction.active`."""
        running = ((name, self._tables.running(name)) for name in device_ids)
        return {name: session for name, session in running if session is not None}

    async def active_of(self, uids: Collection[str]) -> dict[str, list[Session]]:
        """See `Transaction.active_of`."""
        running = [session for session in self._tables.sessions.values() if session.ended is None]
        return {uid: [session for session in running if session.uid == uid] for uid in uids}

    async def pending(self, device_ids: Collection[str]) -> dict[str, list[PendingLogout]]:
        """See `Transaction.pending`."""
        rows = self._tables.pending.values()
        return {name: [row for row in rows if row.device_id == name] for name in device_ids}

    async def sessions(self, session_ids: Collection[str]) -> dict[str, Session]:
        """See `Transaction.sessions`."""
        return {sid: self._tables.sessions[sid] for sid in session_ids if sid in self._tables.sessions}

    async def claimed_by(self, uids: Collection[str]) -> dict[str, list[Device]]:
        """See `Transaction.claimed_by`."""
        devices = sorted(self._tables.devices.values(), key=lambda device: device.device_id)
        free = [device for device in devices if self._tables.running(device.device_id) is None]
        return {uid: [device for device in free if device.claim_uid == uid] for uid in uids}

    async def missed(self, uids: Collection[str]) -> dict[str, list[Missed]]:
        """See `Transaction.missed`."""
        return {uid: [missed for missed in self._tables.missed if missed.uid == uid] for uid in uids}

    async def subscriptions(self, uids: Collection[str]) -> dict[str, list[PushSubscription]]:
        """See `Transaction.subscriptions`."""
        return self._tables.subscriptions_of(uids)

    async def phone(self, endpoint: str) -> PushSubscription | None:
        """See `Transaction.phone`."""
        return next((phone for phone in self._tables.subscriptions if phone.endpoint == endpoint), None)

    async def save(self, changes: Iterable[Change]) -> None:
        """See `Transaction.save`."""
        for change in changes:
            self._tables.apply(change)
