"""Where the ledger is kept: one interface, a few verbs. `MemoryStore` forgets when the process ends."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol, TypeVar

from bridge.ledger import Audit, Change, Device, PendingLogout, Session, Settled

AUDIT_LINES = 10_000
ENDED_SESSIONS = 10_000

Row = TypeVar("Row")


class Transaction(Protocol):
    """Reads see one state of the ledger; what is saved appears as a whole, when the transaction ends without error."""

    async def device(self, device_id: str) -> Device:
        """The device's row, a fresh one for a device never seen."""
        ...

    async def active(self, device_id: str) -> Session | None:
        """The session that runs on the device."""
        ...

    async def active_of(self, uid: str) -> list[Session]:
        """The user's running sessions."""
        ...

    async def pending(self, device_id: str) -> list[PendingLogout]:
        """Log-outs that the device has not confirmed, oldest first."""
        ...

    async def sessions(self, session_ids: Iterable[str]) -> dict[str, Session]:
        """Those of the named sessions that are known."""
        ...

    async def claimed_by(self, uid: str) -> list[str]:
        """Ids of the devices that claim the user and are free."""
        ...

    def save(self, changes: Iterable[Change]) -> None:
        """Write rows, in this order."""
        ...


class Store(Protocol):
    """Keeps the ledger. One transaction at a time writes."""

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """Begin; commit at the end of the block, or nothing at all when it raises."""
        ...


class MemoryStore:
    """The ledger in this process's memory."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._tables = _Tables()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """One at a time."""
        async with self._lock:
            transaction = _MemoryTransaction(self._tables)
            yield transaction
            for change in transaction.changes:
                self._tables.apply(change)

    @property
    def audit(self) -> list[Audit]:
        """The newest lines, oldest first."""
        return list(self._tables.audit)


class _Tables:
    def __init__(self) -> None:
        self.devices: dict[str, Device] = {}
        self.active: dict[str, Session] = {}
        self.users: dict[str, dict[str, Session]] = {}
        self.claims: dict[str, set[str]] = {}
        self.pending: dict[str, dict[str, PendingLogout]] = {}
        self.sessions: dict[str, Session] = {}
        self.ended: deque[str] = deque()
        self.audit: deque[Audit] = deque(maxlen=AUDIT_LINES)

    def apply(self, change: Change) -> None:
        match change:
            case Device():
                self._apply_device(change)
            case Session():
                self._apply_session(change)
            case PendingLogout():
                self.pending.setdefault(change.device_id, {})[change.session_id] = change
            case Settled():
                _discard(self.pending, change.device_id, change.session_id)
            case Audit():
                self.audit.append(change)

    def _apply_device(self, device: Device) -> None:
        old = self.devices.get(device.device_id)
        if old is not None and old.claim_uid is not None and old.claim_uid != device.claim_uid:
            self.claims[old.claim_uid].discard(device.device_id)
            if not self.claims[old.claim_uid]:
                del self.claims[old.claim_uid]
        if device.claim_uid is not None:
            self.claims.setdefault(device.claim_uid, set()).add(device.device_id)
        self.devices[device.device_id] = device

    def _apply_session(self, session: Session) -> None:
        self.sessions[session.session_id] = session
        if session.ended is None:
            self.active[session.device_id] = session
            self.users.setdefault(session.uid, {})[session.session_id] = session
            return
        running = self.active.get(session.device_id)
        if running is not None and running.session_id == session.session_id:
            del self.active[session.device_id]
        _discard(self.users, session.uid, session.session_id)
        self.ended.append(session.session_id)
        if len(self.ended) > ENDED_SESSIONS:
            self.sessions.pop(self.ended.popleft(), None)


def _discard(table: dict[str, dict[str, Row]], owner: str, key: str) -> None:
    rows = table.get(owner, {})
    rows.pop(key, None)
    if not rows:
        table.pop(owner, None)


class _MemoryTransaction:
    def __init__(self, tables: _Tables) -> None:
        self._tables = tables
        self.changes: list[Change] = []

    async def device(self, device_id: str) -> Device:
        return self._tables.devices.get(device_id) or Device(device_id)

    async def active(self, device_id: str) -> Session | None:
        return self._tables.active.get(device_id)

    async def active_of(self, uid: str) -> list[Session]:
        return list(self._tables.users.get(uid, {}).values())

    async def pending(self, device_id: str) -> list[PendingLogout]:
        return list(self._tables.pending.get(device_id, {}).values())

    async def sessions(self, session_ids: Iterable[str]) -> dict[str, Session]:
        return {sid: self._tables.sessions[sid] for sid in session_ids if sid in self._tables.sessions}

    async def claimed_by(self, uid: str) -> list[str]:
        claims = self._tables.claims.get(uid, set())
        return sorted(device_id for device_id in claims if device_id not in self._tables.active)

    def save(self, changes: Iterable[Change]) -> None:
        self.changes.extend(changes)
