"""One transaction of the ledger in SQL: its reads, and how each kind of change is written."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import fields
from itertools import groupby, islice
from typing import Any

from sqlalchemy import BindParameter, Executable, Table, bindparam, delete, exists, select, update
from sqlalchemy.dialects.sqlite import Insert
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.rows import (
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
from bridge.schema import AUDIT, DEVICES, MISSED, OUTBOX, PROMISES, PUSH_SUBSCRIPTIONS, SERVICE, SESSIONS
from bridge.store import StoreError

MISSED_PER_USER = 20
VARIABLES_AT_ONCE = 500
"""Older SQLite takes 999 in one statement."""

_RUNNING = SESSIONS.c.ended.is_(None)
_ANY: BindParameter[Any] = bindparam("any_of", expanding=True)

# Built once: SQLAlchemy finds a statement that it has compiled by looking at all its parts.
_DEVICE = select(DEVICES).where(DEVICES.c.device_id == bindparam("device"))
_ACTIVE = select(SESSIONS).where(SESSIONS.c.device_id == bindparam("device"), _RUNNING)
_ACTIVE_OF = select(SESSIONS).where(SESSIONS.c.uid.in_(_ANY), _RUNNING)
_PENDING = select(OUTBOX).where(OUTBOX.c.device_id == bindparam("device")).order_by(OUTBOX.c.number)
_KNOWN = select(SESSIONS).where(SESSIONS.c.session_id.in_(_ANY))
_CLAIMED_BY = (
    select(DEVICES)
    .where(DEVICES.c.claim_uid.in_(_ANY), ~exists().where(SESSIONS.c.device_id == DEVICES.c.device_id, _RUNNING))
    .order_by(DEVICES.c.device_id)
)
_END = update(SESSIONS).where(SESSIONS.c.session_id == bindparam("session"), _RUNNING)
_NEWEST_MISSED = (
    select(MISSED.c.number)
    .where(MISSED.c.uid == bindparam("user"))
    .order_by(MISSED.c.number.desc())
    .limit(MISSED_PER_USER)
)
_TRIM_MISSED = delete(MISSED).where(MISSED.c.uid == bindparam("user"), MISSED.c.number.not_in(_NEWEST_MISSED))


def _names(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


def _put(statement: Insert, kind: type, *key: str) -> Executable:
    """A row that may be there already."""
    new = {name: statement.excluded[name] for name in _names(kind) if name not in key}
    return statement.on_conflict_do_update(index_elements=key, set_=new)


def _drop(table: Table, kind: type) -> Executable:
    """The rows that have the values of this one."""
    return delete(table).where(*(table.c[name] == bindparam(name) for name in _names(kind)))


_WRITES: dict[type, Executable] = {
    Device: _put(upsert(DEVICES), Device, "device_id"),
    PendingLogout: _put(upsert(OUTBOX), PendingLogout, "device_id", "session_id"),
    Promise: _put(upsert(PROMISES), Promise, "uid"),
    ServiceSeconds: _put(upsert(SERVICE).values(id=1), ServiceSeconds, "id"),
    Settled: _drop(OUTBOX, Settled),
    Departed: _drop(PROMISES, Departed),
    MissedTold: _drop(MISSED, MissedTold),
    Session: SESSIONS.insert(),
    Missed: MISSED.insert(),
    PushSubscription: PUSH_SUBSCRIPTIONS.insert(),
    Audit: AUDIT.insert(),
}
"""One statement for any number of rows of a kind."""

_COLUMNS = {kind: _names(kind) for kind in _WRITES}


class SqlTransaction:
    """See Transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def device(self, device_id: str) -> Device:
        """See Transaction."""
        rows = await self._all(_DEVICE, {"device": device_id})
        return device_of(rows[0]) if rows else Device(device_id, state="new")

    async def active(self, device_id: str) -> Session | None:
        """See Transaction."""
        rows = await self._all(_ACTIVE, {"device": device_id})
        return session_of(rows[0]) if rows else None

    async def active_of(self, uids: Collection[str]) -> dict[str, list[Session]]:
        """See Transaction."""
        found: dict[str, list[Session]] = {uid: [] for uid in uids}
        for row in await self._any_of(_ACTIVE_OF, found):
            found[row.uid].append(session_of(row))
        return found

    async def pending(self, device_id: str) -> list[PendingLogout]:
        """See Transaction."""
        return [pending_of(row) for row in await self._all(_PENDING, {"device": device_id})]

    async def sessions(self, session_ids: Iterable[str]) -> dict[str, Session]:
        """See Transaction."""
        return {row.session_id: session_of(row) for row in await self._any_of(_KNOWN, session_ids)}

    async def claimed_by(self, uids: Collection[str]) -> dict[str, list[Device]]:
        """See Transaction."""
        found: dict[str, list[Device]] = {uid: [] for uid in uids}
        for row in await self._any_of(_CLAIMED_BY, found):
            found[row.claim_uid].append(device_of(row))
        return found

    async def save(self, changes: Iterable[Change]) -> None:
        """See Transaction. Raises StoreError when a session was ended elsewhere in the meantime."""
        for kind, rows in groupby(changes, key=_how):
            if kind in _WRITES:
                await self._write(kind, rows)
            else:
                for row in rows:
                    await self._write_one(row)

    async def _write(self, kind: type, rows: Iterable[Change]) -> None:
        names = _COLUMNS[kind]
        values = [{name: getattr(row, name) for name in names} for row in rows]
        await self._connection.execute(_WRITES[kind], values)

    async def _write_one(self, change: Change) -> None:
        match change:
            case Session():
                await self._end(change)
            case Missed(uid=uid):
                await self._write(Missed, [change])
                await self._connection.execute(_TRIM_MISSED, {"user": uid})
            case PushSubscription():
                await self._subscribe(change)
            case Unsubscribed():
                await self._unsubscribe(change)

    async def _end(self, session: Session) -> None:
        """Compare and set: a session ends once, whoever ends it."""
        values = {"session": session.session_id, "ended": session.ended}
        result = await self._connection.execute(_END, values)
        if result.rowcount != 1:
            raise StoreError(f"session {session.session_id} was ended by somebody else at the same time")

    async def _subscribe(self, subscription: PushSubscription) -> None:
        """Whoever subscribes again is the newest again."""
        same = PUSH_SUBSCRIPTIONS.c.endpoint == subscription.endpoint
        await self._connection.execute(delete(PUSH_SUBSCRIPTIONS).where(same))
        await self._write(PushSubscription, [subscription])

    async def _unsubscribe(self, gone: Unsubscribed) -> None:
        statement = delete(PUSH_SUBSCRIPTIONS).where(PUSH_SUBSCRIPTIONS.c.uid == gone.uid)
        if gone.endpoint is not None:
            statement = statement.where(PUSH_SUBSCRIPTIONS.c.endpoint == gone.endpoint)
        await self._connection.execute(statement)

    async def _all(self, query: Executable, values: dict[str, Any]) -> Sequence[Any]:
        return (await self._connection.execute(query, values)).all()

    async def _any_of(self, query: Executable, wanted: Iterable[str]) -> list[Any]:
        """The rows of all that are wanted."""
        left = iter(wanted)
        rows: list[Any] = []
        while some := list(islice(left, VARIABLES_AT_ONCE)):
            rows += await self._all(query, {"any_of": some})
        return rows


def _how(change: Change) -> type | None:
    """The kind of row, where one statement writes any number of them."""
    match change:
        case Session(ended=None):
            return Session
        case Session() | Missed() | PushSubscription():
            return None
        case _:
            return type(change)


def device_of(row: Any) -> Device:
    """A row of the table `devices`."""
    return Device(
        row.device_id,
        row.install_id,
        row.boot,
        row.seq,
        row.generation,
        row.claim_uid,
        row.logout_url,
        row.assigned_uid,
        row.state,
    )


def session_of(row: Any) -> Session:
    """A row of the table `sessions`."""
    return Session(row.session_id, row.device_id, row.uid, row.generation, row.ended)


def pending_of(row: Any) -> PendingLogout:
    """A row of the table `outbox`."""
    return PendingLogout(
        row.command_id,
        row.session_id,
        row.device_id,
        row.uid,
        row.generation,
        row.reason,
        row.issued_at,
        row.queued_s,
        row.url,
    )
