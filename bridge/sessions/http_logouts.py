"""Log-outs of devices that speak only HTTP: posts under way, and what the ledger notes of them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

from bridge.sessions.devices import Devices
from bridge.sessions.effects import Effects
from bridge.sessions.ledger import Ledger
from bridge.sessions.logout_poster import TIMEOUT_S
from bridge.sessions.rules.device_session import settle
from bridge.sessions.rules.outbox import Outbox
from bridge.sessions.rules.shared_liveness import SharedLiveness
from bridge.storage.records import AuditEvent, By, PendingLogout, signed
from bridge.storage.store import StoreError
from contract.clock import Clock, iso
from infra.tasks import Tasks
from infra.telemetry import get_logger

CLAIMED_FOR_S = 5.0
"""Service time; longer than a post can take."""

log = get_logger("poster")


class HttpLogouts:
    """One post at a time per device, each in a task. No session may begin that a post under way could hit.

    Args:
        on_over: called with the device whose post has ended.
        shared: several bridges share the ledger: only one of them posts a row.
    """

    def __init__(
        self,
        ledger: Ledger,
        outbox: Outbox,
        effects: Effects,
        devices: Devices,
        clock: Clock,
        on_over: Callable[[str], None],
        shared: SharedLiveness | None = None,
    ) -> None:
        self._shared = shared
        self._ledger = ledger
        self._outbox = outbox
        self._effects = effects
        self._devices = devices
        self._clock = clock
        self._on_over = on_over
        self._tasks: Tasks | None = None
        self._under_way: dict[str, asyncio.Task[None]] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Inside this block posts go out; at its end those under way are dropped, their rows stay in the ledger."""
        async with Tasks() as tasks:
            self._tasks = tasks
            try:
                yield
            finally:
                self._tasks = None

    def begin(self, row: PendingLogout) -> None:
        """Post a row that `Outbox.due` handed out; only inside `running`."""
        if self._tasks is None:
            raise RuntimeError("log-outs are posted only while it is running")
        task = self._tasks.start(self._carry_out(row), f"post to {row.device_id}")
        self._under_way[row.device_id] = task
        task.add_done_callback(lambda _: self._under_way.pop(row.device_id, None))

    def busy(self, rows: Iterable[PendingLogout]) -> list[str]:
        """Devices of these rows with a post under way: it must end before a session begins that it could hit."""
        return [row.device_id for row in rows if self._outbox.busy(row.device_id)]

    async def over(self, device_id: str) -> None:
        """Wait until no post to this device is under way."""
        task = self._under_way.get(device_id)
        if task is not None:
            await asyncio.wait([task])

    async def take_out(self, row: PendingLogout, event: AuditEvent, reason: str) -> None:
        """The row is done with. Raises StoreError; nothing happens if its user came back meanwhile."""
        changes = settle(row, event, reason, iso(self._clock.utc_now()))
        async with self._ledger.exclusive() as turn:
            if row not in self._outbox.posted_at(row.device_id):
                return
            async with turn.transaction() as transaction:
                if row not in self._outbox.posted_at(row.device_id):
                    return  # another bridge has just taken it out
                await transaction.save(signed(changes, By(f"device:{row.device_id}", via="http")))
            self._effects.committed(changes)

    async def _may_post(self, row: PendingLogout) -> bool:
        """In a shared ledger the row must be this bridge's for as long as a post takes. Raises StoreError."""
        if self._shared is None:
            return True
        async with self._ledger.exclusive() as turn, turn.transaction() as transaction:
            until_s = transaction.seconds + CLAIMED_FOR_S
            claimed = await transaction.claim_post(row, until_s)
        return claimed and self._shared.latest() + TIMEOUT_S <= until_s

    async def _carry_out(self, row: PendingLogout) -> None:
        obeyed = False
        try:
            obeyed = await self._may_post(row) and await self._devices.post(row) is None
        except StoreError as error:
            log.warning("post_not_claimed", device_id=row.device_id, error=str(error))
        except Exception:
            log.exception("post_failed", device_id=row.device_id)
        try:
            await self._note(row, obeyed=obeyed)
        except StoreError as error:
            log.warning("post_not_noted", device_id=row.device_id, error=str(error))  # it is posted again
        except Exception:
            log.exception("post_failed", device_id=row.device_id)  # the same

    async def _note(self, row: PendingLogout, *, obeyed: bool) -> None:
        taken = False
        try:
            if obeyed:
                await self.take_out(row, "settled", "posted")
                taken = True
        finally:
            # An obeyed post that could not be recorded is repeated, as rarely as a failed one.
            self._outbox.posted(row.device_id, self._clock.monotonic(), taken=taken)
            self._on_over(row.device_id)
