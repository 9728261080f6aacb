"""A ledger in memory that outlives its bridge like a file, needs no event loop, and fails when it is told to."""

from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from bridge.rows import (
    LEAVING,
    ApiKey,
    Audit,
    Change,
    Departed,
    Device,
    Missed,
    MissedTold,
    PendingLogout,
    Promise,
    PushSubscription,
    ServiceSeconds,
    Session,
    Settled,
    Unsubscribed,
)
from bridge.store import Loaded, StoreError, Transaction

Row = TypeVar("Row")


@dataclass
class Tables:
    """What is on disk."""

    devices: dict[str, Device] = field(default_factory=dict)
    sessions: dict[str, Session] = field(default_factory=dict)
    pending: dict[tuple[str, str], PendingLogout] = field(default_factory=dict)
    promises: dict[str, Promise] = field(default_factory=dict)
    missed: list[Missed] = field(default_factory=list)
    subscriptions: list[PushSubscription] = field(default_factory=list)
    audit: deque[Audit] = field(default_factory=lambda: deque(maxlen=10_000))
    seconds: float = 0.0

    def copy(self) -> "Tables":
        return Tables(
            dict(self.devices),
            dict(self.sessions),
            dict(self.pending),
            dict(self.promises),
            list(self.missed),
            list(self.subscriptions),
            self.audit.copy(),
            self.seconds,
        )

    def apply(self, change: Change) -> None:  # noqa: C901, PLR0912 - one line for each kind of row
        match change:
            case Device():
                self.devices[change.device_id] = change
            case Session():
                self._apply_session(change)
            case PendingLogout():
                self.pending[change.device_id, change.session_id] = change
            case Settled():
                self.pending.pop((change.device_id, change.session_id), None)
            case Promise():
                self.promises[change.uid] = change
            case Departed():
                self.promises.pop(change.uid, None)
            case ServiceSeconds():
                self.seconds = change.seconds
            case Missed():
                self.missed.append(change)
                mine = [missed for missed in self.missed if missed.uid == change.uid]
                for old in mine[:-20]:
                    self.missed.remove(old)
            case MissedTold():
                self.missed = [missed for missed in self.missed if missed.uid != change.uid]
            case PushSubscription():
                self.subscriptions = [one for one in self.subscriptions if one.endpoint != change.endpoint] + [change]
            case Unsubscribed():
                self.subscriptions = [one for one in self.subscriptions if not change.is_of(one)]
            case Audit():
                self.audit.append(change)

    def _apply_session(self, session: Session) -> None:
        old = self.sessions.get(session.session_id)
        if session.ended is None:
            running = self.running(session.device_id)
            if old is not None or running is not None:
                raise StoreError("a second session on the device, or one of this id")
        elif old is None or old.ended is not None:
            raise StoreError("it was ended by somebody else at the same time")
        self.sessions[session.session_id] = session

    def running(self, device_id: str) -> Session | None:
        for session in self.sessions.values():
            if session.device_id == device_id and session.ended is None:
                return session
        return None


class MemoryStore:
    """See Store. `fail` says why the next commits do not succeed; `before_commit` may raise to kill the bridge."""

    def __init__(self) -> None:
        self.tables = Tables()
        self.fail: str | None = None
        self.before_commit: Callable[[], None] = lambda: None
        self.problem: str | None = None
        self.prunes = 0
        self.keys: dict[str, ApiKey] = {}

    @property
    def audit(self) -> list[Audit]:
        return list(self.tables.audit)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        tables = self.tables.copy()
        yield MemoryTransaction(tables)
        self.before_commit()
        if self.fail is not None:
            self.problem = self.fail
            raise StoreError(self.fail)
        self.problem = None
        self.tables = tables

    async def load(self) -> Loaded:
        tables = self.tables
        return Loaded(
            tables.seconds,
            [session for session in tables.sessions.values() if session.ended is None],
            list(tables.pending.values()),
            list(tables.promises.values()),
            list(tables.missed),
            tuple(tables.subscriptions),
            [line for line in reversed(tables.audit) if line.event in {"ended", "left"} and line.reason in LEAVING],
        )

    async def api_keys(self) -> list[ApiKey]:
        return list(self.keys.values())

    async def removed(self) -> set[str]:
        return {device.device_id for device in self.tables.devices.values() if device.state == "removed"}

    async def prune(self) -> None:
        self.prunes += 1


class MemoryTransaction:
    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def device(self, device_id: str) -> Device:
        return self._tables.devices.get(device_id) or Device(device_id, state="new")

    async def active(self, device_id: str) -> Session | None:
        return self._tables.running(device_id)

    async def active_of(self, uids: Collection[str]) -> dict[str, list[Session]]:
        running = [session for session in self._tables.sessions.values() if session.ended is None]
        return {uid: [session for session in running if session.uid == uid] for uid in uids}

    async def pending(self, device_id: str) -> list[PendingLogout]:
        return [row for row in self._tables.pending.values() if row.device_id == device_id]

    async def sessions(self, session_ids: Iterable[str]) -> dict[str, Session]:
        return {sid: self._tables.sessions[sid] for sid in session_ids if sid in self._tables.sessions}

    async def claimed_by(self, uids: Collection[str]) -> dict[str, list[Device]]:
        devices = sorted(self._tables.devices.values(), key=lambda device: device.device_id)
        free = [device for device in devices if self._tables.running(device.device_id) is None]
        return {uid: [device for device in free if device.claim_uid == uid] for uid in uids}

    async def save(self, changes: Iterable[Change]) -> None:
        for change in changes:
            self._tables.apply(change)
