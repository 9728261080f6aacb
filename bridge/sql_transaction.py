"""One transaction of the ledger in SQL: its reads, and how each kind of change is written."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Table, delete, exists, select, update
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

_KEYS: dict[type, tuple[Table, list[str]]] = {
    Device: (DEVICES, ["device_id"]),
    PendingLogout: (OUTBOX, ["device_id", "session_id"]),
    Promise: (PROMISES, ["uid"]),
    ServiceSeconds: (SERVICE, ["id"]),
}


class SqlTransaction:
    """See Transaction."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def device(self, device_id: str) -> Device:
        """See Transaction."""
        row = await self._first(select(DEVICES).where(DEVICES.c.device_id == device_id))
        return Device(device_id, state="new") if row is None else device_of(row)

    async def active(self, device_id: str) -> Session | None:
        """See Transaction."""
        row = await self._first(select(SESSIONS).where(SESSIONS.c.device_id == device_id, SESSIONS.c.ended.is_(None)))
        return None if row is None else session_of(row)

    async def active_of(self, uid: str) -> list[Session]:
        """See Transaction."""
        rows = await self._all(select(SESSIONS).where(SESSIONS.c.uid == uid, SESSIONS.c.ended.is_(None)))
        return [session_of(row) for row in rows]

    async def pending(self, device_id: str) -> list[PendingLogout]:
        """See Transaction."""
        rows = await self._all(select(OUTBOX).where(OUTBOX.c.device_id == device_id).order_by(OUTBOX.c.number))
        return [pending_of(row) for row in rows]

    async def sessions(self, session_ids: Iterable[str]) -> dict[str, Session]:
        """See Transaction."""
        wanted = list(session_ids)
        if not wanted:
            return {}
        rows = await self._all(select(SESSIONS).where(SESSIONS.c.session_id.in_(wanted)))
        return {row.session_id: session_of(row) for row in rows}

    async def claimed_by(self, uid: str) -> list[Device]:
        """See Transaction."""
        busy = exists().where(SESSIONS.c.device_id == DEVICES.c.device_id, SESSIONS.c.ended.is_(None))
        rows = await self._all(select(DEVICES).where(DEVICES.c.claim_uid == uid, ~busy).order_by(DEVICES.c.device_id))
        return [device_of(row) for row in rows]

    async def save(self, changes: Iterable[Change]) -> None:
        """See Transaction. Raises StoreError when a session was ended elsewhere in the meantime."""
        for change in changes:
            await self._write(change)

    async def _write(self, change: Change) -> None:
        match change:
            case Session(ended=None):
                await self._run(SESSIONS.insert(), change)
            case Session():
                await self._end(change)
            case Settled(device_id, session_id):
                await self._connection.execute(
                    delete(OUTBOX).where(OUTBOX.c.device_id == device_id, OUTBOX.c.session_id == session_id)
                )
            case Departed(uid):
                await self._connection.execute(delete(PROMISES).where(PROMISES.c.uid == uid))
            case MissedTold(uid):
                await self._connection.execute(delete(MISSED).where(MISSED.c.uid == uid))
            case Missed():
                await self._run(MISSED.insert(), change)
                await self._trim_missed(change.uid)
            case PushSubscription():
                await self._subscribe(change)
            case Unsubscribed():
                await self._unsubscribe(change)
            case Audit():
                await self._run(AUDIT.insert(), change)
            case _:
                await self._put(change)

    async def _put(self, row: Device | PendingLogout | Promise | ServiceSeconds) -> None:
        """A row that may be there already."""
        table, key = _KEYS[type(row)]
        values = {"id": 1, **asdict(row)} if isinstance(row, ServiceSeconds) else asdict(row)
        statement = upsert(table).values(values)
        new = {name: statement.excluded[name] for name in values if name not in key}
        await self._connection.execute(statement.on_conflict_do_update(index_elements=key, set_=new))

    async def _run(self, statement: Any, row: Session | Missed | PushSubscription | Audit) -> None:
        await self._connection.execute(statement, asdict(row))

    async def _end(self, session: Session) -> None:
        """Compare and set: a session ends once, whoever ends it."""
        result = await self._connection.execute(
            update(SESSIONS)
            .where(SESSIONS.c.session_id == session.session_id, SESSIONS.c.ended.is_(None))
            .values(ended=session.ended)
        )
        if result.rowcount != 1:
            raise StoreError(f"session {session.session_id} was ended by somebody else at the same time")

    async def _trim_missed(self, uid: str) -> None:
        newest = (
            select(MISSED.c.number).where(MISSED.c.uid == uid).order_by(MISSED.c.number.desc()).limit(MISSED_PER_USER)
        )
        await self._connection.execute(delete(MISSED).where(MISSED.c.uid == uid, MISSED.c.number.not_in(newest)))

    async def _subscribe(self, subscription: PushSubscription) -> None:
        """Whoever subscribes again is the newest again."""
        same = PUSH_SUBSCRIPTIONS.c.endpoint == subscription.endpoint
        await self._connection.execute(delete(PUSH_SUBSCRIPTIONS).where(same))
        await self._run(PUSH_SUBSCRIPTIONS.insert(), subscription)

    async def _unsubscribe(self, gone: Unsubscribed) -> None:
        statement = delete(PUSH_SUBSCRIPTIONS).where(PUSH_SUBSCRIPTIONS.c.uid == gone.uid)
        if gone.endpoint is not None:
            statement = statement.where(PUSH_SUBSCRIPTIONS.c.endpoint == gone.endpoint)
        await self._connection.execute(statement)

    async def _first(self, query: Any) -> Any:
        return (await self._connection.execute(query)).first()

    async def _all(self, query: Any) -> Sequence[Any]:
        return (await self._connection.execute(query)).all()


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
