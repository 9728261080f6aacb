"""The service time of a shared ledger: one bridge advances it each second, and logs out who is due by it."""

from collections.abc import Sequence

from bridge.sessions.ending import Ended, UserEnder
from bridge.sessions.ledger import Ledger, LedgerTurn
from bridge.sessions.rules.advances import Advances
from bridge.sessions.rules.shared_liveness import SharedLiveness
from bridge.storage.records import TIME_OUT, Change, ServiceSeconds
from bridge.storage.store import Floors, Transaction
from contract.clock import Clock
from infra.telemetry import get_logger

ADVANCE_S = 0.9
"""The row is advanced by this or more: a bridge that comes a moment later finds it done."""
DUE_AT_ONCE = 100

log = get_logger("sessions")


class SharedTime:
    """Any bridge may advance the row; the first one in a second does, and the others find it done.

    Args:
        floors: how far deadlines move when the row stood still: apps could not reach any bridge.
    """

    def __init__(
        self, ledger: Ledger, liveness: SharedLiveness, ender: UserEnder, clock: Clock, floors: Floors
    ) -> None:
        self._ledger = ledger
        self._liveness = liveness
        self._ender = ender
        self._clock = clock
        self._floors = floors
        self._advances = Advances(clock.monotonic())

    def seen(self, seconds: float, asked_at: float) -> None:
        """The row had this value; it was asked for at this monotonic time."""
        now = self._clock.monotonic()
        self._liveness.seen(seconds, sent_at=asked_at, arrived_at=now)
        self._advances.seen(seconds, now)

    async def advance(self, unsaved: list[Change]) -> None:
        """Advance the row if no other bridge has, then log out who is due. Raises StoreError.

        `unsaved`: rows of others, which are written in any case; emptied when they are on disk.
        """
        if not unsaved and self._liveness.ahead_s(self._clock.monotonic()) < ADVANCE_S:
            return
        async with self._ledger.exclusive() as turn:
            due = await self._advance(turn, unsaved)
        while len(due) == DUE_AT_ONCE:
            async with self._ledger.exclusive() as turn:
                due = await self._end_due(turn)

    async def _advance(self, turn: LedgerTurn, unsaved: list[Change]) -> Sequence[str]:
        due: Sequence[str] = ()
        ended = Ended()
        async with turn.transaction() as transaction:
            mono = self._clock.monotonic()
            now_s = self._liveness.now_at(mono)
            advances = now_s - transaction.seconds >= ADVANCE_S
            if advances and self._advances.stood_still(transaction.seconds, mono):
                await transaction.raise_floors(self._floors)
                log.warning("service_stood_still", told="users whose deadline is near get time to reconnect")
            elif advances and self._advances.may_end:
                due, ended = await self._write_due(transaction, now_s)
            await transaction.save([*([ServiceSeconds(now_s)] if advances else []), *unsaved])
        unsaved.clear()
        if advances:
            self._liveness.kept(now_s, mono)
            self._advances.seen(now_s, mono)
        self._ender.ended(due, ended, "heartbeat_timeout")
        return due

    async def _end_due(self, turn: LedgerTurn) -> Sequence[str]:
        async with turn.transaction() as transaction:
            due, ended = await self._write_due(transaction, transaction.seconds)
        self._ender.ended(due, ended, "heartbeat_timeout")
        return due

    async def _write_due(self, transaction: Transaction, seconds: float) -> tuple[Sequence[str], Ended]:
        due = await transaction.due(seconds, DUE_AT_ONCE)
        return due, (await self._ender.write(transaction, due, "heartbeat_timeout", TIME_OUT) if due else Ended())
