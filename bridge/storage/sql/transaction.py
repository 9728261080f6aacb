"""One transaction of the ledger in SQL: reads, and the statement of each change."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, TypeVar

from sqlalchemy import (
    Column,
    ColumnElement,
    Executable,
    Row,
    Select,
    Table,
    bindparam,
    case,
    delete,
    exists,
    func,
    null,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.storage.news import News, is_news
from bridge.storage.records import (
    ApiKey,
    Audit,
    Change,
    Departed,
    Device,
    DurableDeadline,
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
from bridge.storage.sql.batches import batches_of
from bridge.storage.sql.schema import AUDIT, DEVICES, MISSED, OUTBOX, PROMISES, PUSH_SUBSCRIPTIONS, SERVICE, SESSIONS
from bridge.storage.store import Floors, StoreError

Record = TypeVar("Record", Device, Session, PendingLogout, DurableDeadline, Missed, PushSubscription, Audit, ApiKey)

MISSED_PER_USER = 20

_RUNNING = SESSIONS.c.ended.is_(None)
_NEWEST_MISSED = (
    select(MISSED.c.number)
    .where(MISSED.c.uid == bindparam("user"))
    .order_by(MISSED.c.number.desc())
    .limit(MISSED_PER_USER)
)
_TRIM_MISSED = delete(MISSED).where(MISSED.c.uid == bindparam("user"), MISSED.c.number.not_in(_NEWEST_MISSED))
_UNSUBSCRIBE = delete(PUSH_SUBSCRIPTIONS).where(PUSH_SUBSCRIPTIONS.c.uid == bindparam("user"))
_UNSUBSCRIBE_ONE = _UNSUBSCRIBE.where(PUSH_SUBSCRIPTIONS.c.endpoint == bindparam("phone"))
_PHONE = select(PUSH_SUBSCRIPTIONS).where(PUSH_SUBSCRIPTIONS.c.endpoint == bindparam("phone"))
_DUE = (
    select(PROMISES.c.uid)
    .where(PROMISES.c.left_s.is_(None), PROMISES.c.until_s <= bindparam("seconds"))
    .order_by(PROMISES.c.until_s)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)
)
_CLAIM = (
    update(OUTBOX)
    .where(
        OUTBOX.c.device_id == bindparam("device"),
        OUTBOX.c.session_id == bindparam("session"),
        func.coalesce(OUTBOX.c.claimed_until_s, 0.0) <= bindparam("seconds"),
    )
    .values(claimed_by=bindparam("run"), claimed_until_s=bindparam("until"))
)
_FORGET_PHONE = delete(PUSH_SUBSCRIPTIONS).where(PUSH_SUBSCRIPTIONS.c.endpoint == bindparam("phone"))


@dataclass(frozen=True, slots=True)
class Product:
    """What SQLAlchemy says differently for each product.

    Attributes:
        upsert: `insert` that can update a row which is there already.
        any_of: whether a column has one of the texts in the parameter `any_of`, a list of any length.
        greatest: the greater one of two numbers.
    """

    upsert: Callable[[Table], Any]
    any_of: Callable[[Column[str]], ColumnElement[bool]]
    greatest: Callable[[Any, Any], ColumnElement[float]]


@dataclass(frozen=True, slots=True)
class Statements:
    """The statements of a product, built once: SQLAlchemy finds a compiled one only by comparing all its parts."""

    devices: Select[Any]
    active: Select[Any]
    active_of: Select[Any]
    pending: Select[Any]
    known: Select[Any]
    claimed_by: Select[Any]
    missed: Select[Any]
    subscriptions: Select[Any]
    lifetimes: Select[Any]
    posting: Select[Any]
    end: Executable
    writes: Mapping[type, Executable]
    """One statement for any number of rows of a kind."""


@cache
def statements(product: Product) -> Statements:
    """All statements of a transaction."""
    any_of = product.any_of
    return Statements(
        devices=select(DEVICES).where(any_of(DEVICES.c.device_id)),
        active=select(SESSIONS).where(any_of(SESSIONS.c.device_id), _RUNNING),
        active_of=select(SESSIONS).where(any_of(SESSIONS.c.uid), _RUNNING),
        pending=select(OUTBOX).where(any_of(OUTBOX.c.device_id)).order_by(OUTBOX.c.number),
        known=select(SESSIONS).where(any_of(SESSIONS.c.session_id)),
        claimed_by=select(DEVICES)
        .where(any_of(DEVICES.c.claim_uid), ~exists().where(SESSIONS.c.device_id == DEVICES.c.device_id, _RUNNING))
        .order_by(DEVICES.c.device_id),
        missed=select(MISSED).where(any_of(MISSED.c.uid)).order_by(MISSED.c.number),
        subscriptions=select(PUSH_SUBSCRIPTIONS)
        .where(any_of(PUSH_SUBSCRIPTIONS.c.uid))
        .order_by(PUSH_SUBSCRIPTIONS.c.number),
        lifetimes=select(PROMISES).where(any_of(PROMISES.c.uid)),
        posting=select(OUTBOX.c.device_id).where(
            any_of(OUTBOX.c.device_id),
            OUTBOX.c.claimed_until_s > bindparam("seconds"),
            OUTBOX.c.claimed_by != bindparam("run"),
        ),
        end=update(SESSIONS).where(any_of(SESSIONS.c.session_id), _RUNNING).values(ended=bindparam("why")),
        writes=_OTHERS
        | {kind: _put(product.upsert(table), kind, key) for kind, (table, key) in _PUT.items()}
        | {
            DurableDeadline: _promise(product),
            Departed: _depart(product.upsert(PROMISES)),
            ServiceSeconds: _keep_time(product),
            Missed: product.upsert(MISSED).on_conflict_do_nothing(index_elements=["id"]),
        },
    )


def _names(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


def _drop(table: Table, kind: type) -> Executable:
    """Delete the rows with the values of this one."""
    return delete(table).where(*(table.c[name] == bindparam(name) for name in _names(kind)))


_PUT: dict[type, tuple[Table, Collection[str]]] = {
    Device: (DEVICES, ["device_id"]),
    PendingLogout: (OUTBOX, ["device_id", "session_id"]),
}
"""Rows that may be there already, by their key."""

_OTHERS: dict[type, Executable] = {
    Settled: _drop(OUTBOX, Settled),
    MissedTold: _drop(MISSED, MissedTold),
    Session: SESSIONS.insert(),
    PushSubscription: PUSH_SUBSCRIPTIONS.insert(),
    Audit: AUDIT.insert(),
}


def _put(statement: Any, kind: type, key: Collection[str]) -> Executable:
    new = {name: statement.excluded[name] for name in _names(kind) if name not in key}
    put: Executable = statement.on_conflict_do_update(index_elements=key, set_=new)
    return put


def _promise(product: Product) -> Executable:
    """Never lowered while the user is there; what was promised before the user left counts no longer."""
    statement = product.upsert(PROMISES)
    new = statement.excluded.until_s
    until_s = case((PROMISES.c.left_s.is_(None), product.greatest(PROMISES.c.until_s, new)), else_=new)
    put: Executable = statement.on_conflict_do_update(
        index_elements=["uid"], set_={"until_s": until_s, "floored": statement.excluded.floored, "left_s": null()}
    )
    return put


def _depart(statement: Any) -> Executable:
    put: Executable = statement.values(until_s=0.0, floored=False).on_conflict_do_update(
        index_elements=["uid"], set_={"left_s": statement.excluded.left_s}
    )
    return put


def _keep_time(product: Product) -> Executable:
    """Never back."""
    statement = product.upsert(SERVICE)
    new = statement.excluded.seconds
    seconds = product.greatest(func.coalesce(SERVICE.c.seconds, new), new)
    put: Executable = statement.values(id=1).on_conflict_do_update(index_elements=["id"], set_={"seconds": seconds})
    return put


_COLUMNS: dict[type, tuple[str, ...]] = {
    kind: _names(kind) for kind in (*_PUT, *_OTHERS, DurableDeadline, Departed, ServiceSeconds, Missed, ApiKey)
}
_COLUMNS[Departed] = ("uid", "left_s")  # the reason is in the audit


def record(kind: type[Record], row: Row[Any]) -> Record:
    """A row as a record of this kind: each field is the column of its name, in any order; further columns are ignored.

    Raises KeyError if a column is missing.
    """
    columns = row._mapping  # noqa: SLF001  # public in SQLAlchemy: named so that it is no column's name
    return kind(**{name: columns[name] for name in _COLUMNS[kind]})


async def subscriptions_of(
    connection: AsyncConnection, query: Executable, uids: Collection[str]
) -> dict[str, list[PushSubscription]]:
    """The phones of each of these users, by the product's statement."""
    found: dict[str, list[PushSubscription]] = {uid: [] for uid in uids}
    if found:
        for row in await connection.execute(query, {"any_of": list(found)}):
            found[row.uid].append(record(PushSubscription, row))
    return found


@dataclass(frozen=True, slots=True)
class Turn:
    """The turn of a transaction in a shared ledger: see Transaction; `run` is this process of the bridge."""

    number: int = 0
    seconds: float = 0.0
    run: str = ""
    news: Sequence[News] = ()


ALONE = Turn()


def _uid_of(row: Any) -> str:
    return str(row.uid)


class SqlTransaction:
    """See Transaction.

    Args:
        turn: what is known of it in a shared ledger.
        told: where the changes are put that others have to hear of; None if there are no others.
    """

    def __init__(
        self,
        connection: AsyncConnection,
        of_product: Statements,
        turn: Turn = ALONE,
        told: list[Change] | None = None,
    ) -> None:
        self.news, self.number, self.seconds = turn.news, turn.number, turn.seconds
        self._run = turn.run
        self._connection = connection
        self._statements = of_product
        self._told = told

    async def devices(self, device_ids: Collection[str]) -> dict[str, Device]:
        """See `Transaction.devices`."""
        found = {row.device_id: record(Device, row) for row in await self._any_of(self._statements.devices, device_ids)}
        return {device_id: found.get(device_id) or Device(device_id, state="new") for device_id in device_ids}

    async def active(self, device_ids: Collection[str]) -> dict[str, Session]:
        """See `Transaction.active`."""
        return {row.device_id: record(Session, row) for row in await self._any_of(self._statements.active, device_ids)}

    async def active_of(self, uids: Collection[str]) -> dict[str, list[Session]]:
        """See `Transaction.active_of`."""
        found: dict[str, list[Session]] = {uid: [] for uid in uids}
        for row in await self._any_of(self._statements.active_of, found):
            found[row.uid].append(record(Session, row))
        return found

    async def pending(self, device_ids: Collection[str]) -> dict[str, list[PendingLogout]]:
        """See `Transaction.pending`."""
        found: dict[str, list[PendingLogout]] = {device_id: [] for device_id in device_ids}
        for row in await self._any_of(self._statements.pending, found):
            found[row.device_id].append(record(PendingLogout, row))
        return found

    async def sessions(self, session_ids: Collection[str]) -> dict[str, Session]:
        """See `Transaction.sessions`."""
        return {row.session_id: record(Session, row) for row in await self._any_of(self._statements.known, session_ids)}

    async def claimed_by(self, uids: Collection[str]) -> dict[str, list[Device]]:
        """See `Transaction.claimed_by`."""
        found: dict[str, list[Device]] = {uid: [] for uid in uids}
        for row in await self._any_of(self._statements.claimed_by, found):
            found[row.claim_uid].append(record(Device, row))
        return found

    async def lifetimes(self, uids: Collection[str]) -> dict[str, Lifetime]:
        """See `Transaction.lifetimes`."""
        rows = await self._any_of(self._statements.lifetimes, uids)
        return {row.uid: Lifetime(row.until_s, row.left_s) for row in rows}

    async def due(self, seconds: float, most: int) -> list[str]:
        """See `Transaction.due`."""
        found = await self._connection.execute(_DUE, {"seconds": seconds, "most": most})
        return [row.uid for row in found]

    async def raise_floors(self, floors: Floors) -> None:
        """See `Transaction.raise_floors`; a store that is not shared raises them in memory."""
        raise NotImplementedError

    async def claim_post(self, row: PendingLogout, until_s: float) -> bool:
        """See `Transaction.claim_post`."""
        values = {"device": row.device_id, "session": row.session_id, "run": self._run}
        claimed = await self._connection.execute(_CLAIM, {**values, "seconds": self.seconds, "until": until_s})
        return bool(claimed.rowcount == 1)

    async def posting_elsewhere(self, device_ids: Collection[str]) -> set[str]:
        """See `Transaction.posting_elsewhere`."""
        if not device_ids:
            return set()
        values = {"any_of": list(device_ids), "seconds": self.seconds, "run": self._run}
        return {row.device_id for row in await self._connection.execute(self._statements.posting, values)}

    async def missed(self, uids: Collection[str]) -> dict[str, list[Missed]]:
        """See `Transaction.missed`."""
        found: dict[str, list[Missed]] = {uid: [] for uid in uids}
        for row in await self._any_of(self._statements.missed, found):
            found[row.uid].append(record(Missed, row))
        return found

    async def subscriptions(self, uids: Collection[str]) -> dict[str, list[PushSubscription]]:
        """See `Transaction.subscriptions`."""
        return await subscriptions_of(self._connection, self._statements.subscriptions, uids)

    async def phone(self, endpoint: str) -> PushSubscription | None:
        """See `Transaction.phone`."""
        row = (await self._connection.execute(_PHONE, {"phone": endpoint})).one_or_none()
        return None if row is None else record(PushSubscription, row)

    async def save(self, changes: Iterable[Change]) -> None:
        """See `Transaction.save`. Raises StoreError if another transaction ended a session in the meantime."""
        if self._told is not None:
            changes = list(changes)
            self._told += filter(is_news, changes)
        for rows in batches_of(changes):
            await self._write(rows)

    async def _write(self, rows: Sequence[Any]) -> None:
        """Rows of one kind."""
        match rows[0]:
            case Session(ended=str(reason)):
                await self._end(rows, reason)
            case Missed():
                await self._put(Missed, rows)
                users = dict.fromkeys(row.uid for row in rows)
                await self._connection.execute(_TRIM_MISSED, [{"user": uid} for uid in users])
            case PushSubscription():
                for row in rows:
                    # A repeated subscription becomes the newest.
                    await self._connection.execute(_FORGET_PHONE, {"phone": row.endpoint})
                    await self._put(PushSubscription, [row])
            case Unsubscribed(endpoint=None):
                await self._connection.execute(_UNSUBSCRIBE, [{"user": row.uid} for row in rows])
            case Unsubscribed():
                phones = [{"user": row.uid, "phone": row.endpoint} for row in rows]
                await self._connection.execute(_UNSUBSCRIBE_ONE, phones)
            case DurableDeadline() | Departed() as first:
                # Where deadlines are also raised beside turns, all lock their rows in one order.
                await self._put(type(first), sorted(rows, key=_uid_of))
            case first:
                await self._put(type(first), rows)

    async def _put(self, kind: type, rows: Iterable[Change]) -> None:
        names = _COLUMNS[kind]
        values = [{name: getattr(row, name) for name in names} for row in rows]
        await self._connection.execute(self._statements.writes[kind], values)

    async def _end(self, sessions: Sequence[Session], reason: str) -> None:
        """Compare and set: a session ends once."""
        ids = [session.session_id for session in sessions]
        result = await self._connection.execute(self._statements.end, {"any_of": ids, "why": reason})
        if result.rowcount != len(ids):
            which = f"session {ids[0]} was" if len(ids) == 1 else f"some of {len(ids)} sessions were"
            raise StoreError(f"{which} ended by another transaction at the same time")

    async def _any_of(self, query: Executable, wanted: Collection[str]) -> Sequence[Any]:
        """The rows of all wanted values; nothing is asked for none."""
        if not wanted:
            return ()
        return (await self._connection.execute(query, {"any_of": list(wanted)})).all()
