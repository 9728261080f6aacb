"""The ledger in PostgreSQL, for bridges that share it and for the commands beside them."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import NoReturn, Self

from sqlalchemy import (
    ARRAY,
    Column,
    ColumnElement,
    String,
    any_,
    bindparam,
    cast,
    delete,
    func,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from bridge.storage.news import BehindError, HistoryError, News, NewsCursor, UnknownNewsError, text_of
from bridge.storage.postgres import bridges, claims, server, tables
from bridge.storage.postgres.engine import KeptError, make_engine, state_of, taken, unreachable
from bridge.storage.postgres.joining import Joining
from bridge.storage.records import BACK_UP, Change
from bridge.storage.sql.schema import NEWS, SERVICE, Text
from bridge.storage.sql.store import SqlStore
from bridge.storage.sql.transaction import Product, SqlTransaction, Turn
from bridge.storage.store import (
    Beat,
    Floors,
    Identity,
    LedgerKeptError,
    LedgerLostError,
    Loaded,
    Seen,
    StoreError,
    Transaction,
)
from contract.errors import StartError
from infra.settings.bridge import StoreSettings
from infra.telemetry import get_logger

COMMAND = "command"
"""The name in news of what is not a bridge."""

TURN_WITHIN_S = 5.0
"""A transaction that changes the ledger, all its statements together."""
READ_WITHIN_S = 60.0
HOLD_WITHIN_S = 5.0
"""The server needs a moment to see that a killed bridge is gone."""
PAUSE_S = 0.2

KEPT_TURNS = 100_000  # news of more turns are forgotten: a bridge looks every half second

READ_ONLY = "25006"
"""The server has become a standby."""
IN_THE_FUTURE = "22023"
"""Of a transaction: the server that took over has never seen it."""
_TURN = (
    update(SERVICE)
    .where(SERVICE.c.id == 1)
    .values(turn=SERVICE.c.turn + 1)
    .returning(
        SERVICE.c.opened,
        SERVICE.c.turn,
        SERVICE.c.seconds,
        cast(func.pg_current_xact_id(), String).label("transaction"),
        cast(func.pg_postmaster_start_time(), String).label("server"),
    )
)
_SERVICE = select(SERVICE.c.opened, SERVICE.c.turn, SERVICE.c.seconds).where(SERVICE.c.id == 1)
_NEWS = select(NEWS).where(NEWS.c.number >= bindparam("first")).order_by(NEWS.c.number)
_WENT_BACK = update(SERVICE).values(opened=BACK_UP)
_OLD_NEWS = delete(NEWS).where(NEWS.c.number <= select(SERVICE.c.turn).scalar_subquery() - bindparam("kept"))
_STATUS = text("SELECT pg_xact_status(CAST(CAST(:transaction AS text) AS xid8))")
_SERVER = select(cast(func.pg_postmaster_start_time(), String))
_OWN_NEWS = select(NEWS.c.number).where(NEWS.c.number == bindparam("number"), NEWS.c.run == bindparam("by"))
_MAY_BE_LONG = text("SET LOCAL statement_timeout = 0")
log = get_logger("store")


def _any_of(column: Column[str]) -> ColumnElement[bool]:
    return column == any_(bindparam("any_of", type_=ARRAY(Text)))


PRODUCT = Product(upsert, _any_of, func.greatest)


@dataclass(frozen=True, slots=True)
class Taken:
    """A turn that this process has taken.

    Attributes:
        transaction: its number in the database; after a crash of the server another transaction can get it.
        server: when the server was started in which it began.
    """

    number: int
    transaction: str
    server: str


class PostgresStore(SqlStore):
    """A Store in PostgreSQL. Make it with `open` or `open_read_only`, end it with `close`.

    A transaction that changes the ledger first locks the row of the service, so that all who write do it one after
    another. A bridge has a row of its own (bridges.py), and finds the era that it has joined in the service's row each
    time: one that was cut off while all others ended, and a new one began, can change nothing.
    """

    FAILURES = (*SqlStore.FAILURES, *server.FAILURES)
    shared = True

    def __init__(self, engine: AsyncEngine, place: str, me: Identity | None) -> None:
        super().__init__(engine, PRODUCT)
        self._place = place
        self._row = None if me is None else bridges.OwnRow(me, secrets.token_hex(8))
        """None for a command beside the bridges."""
        self._era: str | None = None
        """The run of the bridge that began it; None before this one is attached."""
        self._unknown: Taken | None = None
        """A turn of which it is not known whether it was committed."""
        self._turn = 0
        """The number of the turn under way."""
        self._seconds = 0.0
        """The service time on disk when it began."""
        self._known_turn = 0
        """The number of the last turn that was surely committed."""
        self._cursor: NewsCursor | None = None
        """None before the ledger is loaded, and for commands."""

    @property
    def _run(self) -> str:
        return COMMAND if self._row is None else self._row.run

    @classmethod
    async def open(cls, settings: StoreSettings, *, alone: bool = True, me: Identity | None = None) -> Self:
        """The ledger at `store.url`, made if the database has none; raises StartError that says what is wrong.

        `alone`: as a bridge, `me`; else something is written beside bridges that may run.
        """
        who = (me or Identity("bridge-1")) if alone else None
        store = cls(
            make_engine(server.connector(settings), holds="a part" if alone else "nothing"), settings.place, who
        )
        try:
            await store._begin(settings)
        except BaseException:
            await store.close()
            raise
        return store

    @classmethod
    async def open_read_only(cls, settings: StoreSettings) -> Self:
        """The ledger only to read, also beside a running bridge; raises StartError when there is none."""
        store = cls(make_engine(server.connector(settings), holds="nothing"), settings.place, None)
        try:
            async with store._engine.connect() as connection:
                version = await tables.version(connection)
        except cls.FAILURES as error:
            await store.close()
            raise unreachable(settings, error) from None
        if version is None:
            await store.close()
            raise StartError(
                f"there is no ledger in {settings.place}, and only the bridge makes one: start `sarvis bridge` "
                f"once with these settings, or name another database with --store-url (store.url)"
            )
        return store

    async def close(self) -> None:
        """Let others know that this bridge ended, and go."""
        if self._row is not None and self._era is not None and not self.lost.is_set():
            with suppress(*self.FAILURES):
                async with asyncio.timeout(TURN_WITHIN_S), self._engine.begin() as connection:
                    await self._row.leave(connection)
        with suppress(*self.FAILURES):
            await self._engine.dispose()

    async def _begin(self, settings: StoreSettings) -> None:
        deadline = asyncio.get_running_loop().time() + HOLD_WITHIN_S
        while True:
            try:
                return await self._prepare(settings)
            except KeptError:
                if asyncio.get_running_loop().time() > deadline:
                    raise LedgerKeptError(
                        f"the ledger {settings.place} is held by `sarvis restore`, or by a bridge of an earlier "
                        f"version; wait for its end or stop it, or name another database in store.url"
                    ) from None
                await asyncio.sleep(PAUSE_S)
            except self.FAILURES as error:
                raise unreachable(settings, error) from None

    async def _prepare(self, settings: StoreSettings) -> None:
        async with self._engine.begin() as connection:
            await tables.make(connection, settings)
            if self._row is not None:
                before = (await connection.execute(select(SERVICE.c.opened))).scalar()
                self.restored = before == BACK_UP

    @asynccontextmanager
    async def _reading(self, *, long: bool = False) -> AsyncIterator[AsyncConnection]:
        async with asyncio.timeout(None if long else READ_WITHIN_S), self._engine.connect() as connection:
            await connection.execution_options(isolation_level="REPEATABLE READ")
            await connection.execute(_MAY_BE_LONG)
            yield connection

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[AsyncConnection]:
        committing: Taken | None = None
        try:
            async with self._engine.connect() as connection:
                async with asyncio.timeout(TURN_WITHIN_S):
                    turn = await self._take_turn(connection)
                    yield connection
                committing = turn
                async with asyncio.timeout(TURN_WITHIN_S):
                    await connection.commit()
                committing = None
        except self.FAILURES as error:
            if state_of(error) == READ_ONLY:
                await self._engine.dispose()  # the next connection looks for the server that takes writes
            if committing is None or not await self._was_committed(committing):
                raise
        except BaseException:
            self._unknown = self._unknown or committing
            raise
        self._known_turn = self._turn

    async def _take_turn(self, connection: AsyncConnection) -> Taken:
        """Be the only one who writes until the transaction ends."""
        if self._unknown is not None:
            await self._settle(connection, self._unknown)
        # With the row locked, each statement that follows reads what was committed last.
        row = (await connection.execute(_TURN)).one()
        self._turn, self._seconds = row.turn, row.seconds or 0.0
        self._check_era(row.opened)
        if self._era is not None and self._turn <= self._known_turn:
            await self._tell_of_lost_history(connection)
        return Taken(row.turn, row.transaction, row.server)

    def _check_era(self, era: str | None) -> None:
        if self._era is not None and era != self._era:
            raise self._is_lost("the ledger was restored, or taken over by others while this bridge was cut off")

    async def _tell_of_lost_history(self, connection: AsyncConnection) -> NoReturn:
        """What was committed last is gone: all bridges end, and the next one treats the ledger as a back-up."""
        await connection.rollback()
        await connection.execute(_WENT_BACK)
        await connection.commit()
        raise self._is_lost("the ledger went back: a server without the newest changes has taken over")

    # Beside other bridges:

    @property
    def era(self) -> str:  # type: ignore[override]
        """See Store."""
        return self._era or ""

    async def attach(self, floors: Floors, *, restored: bool) -> None:
        """See Store."""
        if self._row is None:
            raise RuntimeError("only a bridge attaches")
        joining = Joining(self._row.identity.instance)
        while self._era is None:
            try:
                async with self._one, self._writing() as connection:
                    era = await self._attached(connection, self._row, joining, floors, restored=restored)
            except self.FAILURES as error:
                self._fail(error)
                raise StoreError(f"the ledger cannot be written: {self.problem}") from error
            self._era = era
            if era is None:
                await asyncio.sleep(PAUSE_S)

    async def _attached(
        self, connection: AsyncConnection, me: bridges.OwnRow, joining: Joining, floors: Floors, *, restored: bool
    ) -> str | None:
        """The era that this bridge has joined or begun; None: it is not clear yet who lives."""
        rows = await bridges.all_of(connection)
        verdict = joining.look(rows, await bridges.connected(connection), asyncio.get_running_loop().time())
        opened = str((await connection.execute(_SERVICE)).one().opened)
        if verdict == "wait":
            return None
        if verdict == "taken":
            raise taken(self._place, next(row for row in rows if row.instance == joining.instance))
        if verdict == "joins" and (restored or opened == BACK_UP):
            others = ", ".join(row.instance for row in rows if not row.gone)
            raise LedgerKeptError(
                f"the ledger {self._place} is a back-up, and {others} uses it; stop all bridges first"
            )
        await me.put(connection)
        if verdict == "joins":
            return opened
        await me.begin_era(connection)
        restored = restored or opened == BACK_UP
        await bridges.raise_floors(connection, floors, self._seconds, restored=restored)
        return me.run

    async def look(self, beat: Beat) -> Seen | None:
        """See Store."""
        if self._row is None or self._cursor is None:
            raise RuntimeError("only a bridge looks, after it has loaded the ledger")
        try:
            async with self._engine.connect() as connection:
                async with asyncio.timeout(TURN_WITHIN_S):
                    if self._unknown is not None:
                        await self._settle(connection, self._unknown)
                        await connection.rollback()
                    await connection.execution_options(isolation_level="REPEATABLE READ")
                    service = (await connection.execute(_SERVICE)).one()
                    self._check_era(service.opened)
                    if not await self._row.beat(connection, beat):
                        raise self._is_lost(
                            f"another bridge has taken the name {self._row.identity.instance} (bridge.instance) while "
                            f"this one stood still or was cut off"
                        )
                    rows = await bridges.all_of(connection)
                    news = await self._read_news(connection, self._cursor, service.turn)
                with suppress(*self.FAILURES):  # what was read is true, whether the beat is stored or not
                    async with asyncio.timeout(TURN_WITHIN_S):
                        await connection.commit()
                    self.problem = None  # a bridge that another one spares its turns has written, too
        except self.FAILURES as error:
            self._fail(error)
            raise StoreError(f"the ledger cannot be read: {self.problem}") from error
        self._known_turn = max(self._known_turn, service.turn)
        return Seen(service.seconds or 0.0, news, rows)

    async def other_bridges(self) -> list[str]:
        """See Store."""
        mine = "" if self._row is None else self._row.identity.instance
        return [row.instance for row in await self._read(bridges.others_than(mine))]

    async def raise_deadlines(self, uids: Collection[str], for_s: float) -> dict[str, float]:
        """See Store."""
        try:
            async with asyncio.timeout(TURN_WITHIN_S), self._engine.begin() as connection:
                return await bridges.raise_deadlines(connection, sorted(uids), for_s)
        except self.FAILURES as error:
            self._fail(error)
            raise StoreError(f"the ledger cannot be written: {self.problem}") from error

    async def claim(self, names: Collection[str]) -> set[str]:
        """See Store."""
        try:
            async with asyncio.timeout(TURN_WITHIN_S), self._engine.begin() as connection:
                return await claims.claim(connection, names)
        except self.FAILURES as error:
            self._fail(error)
            raise StoreError(f"the ledger cannot be written: {self.problem}") from error

    async def load(self) -> Loaded:
        """See Store."""
        loaded = await super().load()
        self._cursor = NewsCursor(self._run, loaded.turn, KEPT_TURNS)
        return loaded

    async def _begun(self, connection: AsyncConnection, *, with_news: bool) -> Turn:
        news: Sequence[News] = ()
        if with_news and self._cursor is not None:
            news = await self._read_news(connection, self._cursor, self._turn - 1)
        return Turn(self._turn, self._seconds, self._run, news)

    def _transaction(self, connection: AsyncConnection, turn: Turn, told: list[Change] | None) -> Transaction:
        return _Transaction(connection, self._statements, turn, told)

    async def _read_news(self, connection: AsyncConnection, cursor: NewsCursor, turn: int) -> Sequence[News]:
        rows = (await connection.execute(_NEWS, {"first": cursor.first})).all()
        try:
            return cursor.read(rows, turn)
        except UnknownNewsError:
            raise self._is_lost("a newer version of SARVIS has changed the ledger") from None
        except BehindError as error:
            raise self._is_lost(str(error)) from None
        except HistoryError as error:
            await connection.rollback()
            await connection.execute(_WENT_BACK)
            await connection.commit()
            raise self._is_lost(str(error)) from None

    async def _tell(self, connection: AsyncConnection, changes: Sequence[Change]) -> None:
        row = {"number": self._turn, "run": self._run, "changes": text_of(changes)}
        await connection.execute(NEWS.insert(), row)

    async def _forget(self, connection: AsyncConnection) -> None:
        await connection.execute(_OLD_NEWS, {"kept": KEPT_TURNS})
        await claims.forget(connection)

    async def _settle(self, connection: AsyncConnection, unknown: Taken) -> None:
        status = await self._status(connection, unknown)
        if status == "committed":
            log.warning("ledger_commit_unanswered", outcome="committed, after all")
            if self._cursor is not None:
                self._cursor.unheard(unknown.number)  # memory follows it as the news of another
        elif status != "aborted":
            raise StoreError("the ledger cannot be written: a transaction that was cut off has not ended yet")
        self._unknown = None

    async def _was_committed(self, turn: Taken) -> bool:
        """Whether a transaction was committed whose COMMIT got no answer; False, too, if the server does not say."""
        deadline = asyncio.get_running_loop().time() + TURN_WITHIN_S
        while True:
            try:
                async with asyncio.timeout(TURN_WITHIN_S), self._engine.connect() as connection:
                    status = await self._status(connection, turn)
            except self.FAILURES:
                status = None
            if status in {"committed", "aborted"}:
                log.warning("ledger_commit_unanswered", outcome=status)
                return bool(status == "committed")
            if asyncio.get_running_loop().time() > deadline:
                self._unknown = turn
                return False
            await asyncio.sleep(PAUSE_S)

    async def _status(self, connection: AsyncConnection, turn: Taken) -> object:
        """What became of a turn; one whose transaction the server does not know is lost, as after a crash.

        In a server that was started since, the number of a lost transaction can be that of another one: there only
        news of the turn shows that it was committed. One without news counts as lost: its caller tries again.
        """
        if (await connection.execute(_SERVER)).scalar() != turn.server:
            told = await connection.execute(_OWN_NEWS, {"number": turn.number, "by": self._run})
            return "committed" if told.scalar() is not None else "aborted"
        try:
            return (await connection.execute(_STATUS, {"transaction": turn.transaction})).scalar()
        except self.FAILURES as error:
            if state_of(error) != IN_THE_FUTURE:
                raise
            await connection.rollback()
            return "aborted"

    def _is_lost(self, problem: str) -> LedgerLostError:
        self.problem = problem
        self.lost.set()
        return LedgerLostError(f"{problem}; start the bridge again, it then reads the ledger anew")


class _Transaction(SqlTransaction):
    async def raise_floors(self, floors: Floors) -> None:
        await bridges.raise_floors(self._connection, floors, self.seconds)
