"""Queues devices' reports, so that those of many are stored in one commit."""

import asyncio
import heapq
import itertools

from prometheus_client import Counter

from bridge.sessions.service import Sessions
from bridge.storage.store import StoreError
from contract.clock import Clock
from contract.messages import Ack, Hello
from infra.mqtt.session import Incoming
from infra.tasks import Tasks
from infra.telemetry import REGISTRY, get_logger

MAX_WAITING_REPORTS = 10_000
REPORTS_AT_ONCE = 100
LATER_S = 1.0
"""How long the second bridge for a device waits for the first one to take its report, the third one for both."""
LOOK_EVERY_S = 0.25

REPORTS_REFUSED = Counter(
    "sarvis_reports_refused_total", "Reports dropped because too many were waiting", registry=REGISTRY
)

log = get_logger("bridge")


class ReportQueue:
    """At most 10,000 reports; what finds no room is acknowledged all the same, for devices say hello again.

    Where bridges share a ledger, all hear each report: the first one for its device takes it at once, the others wait
    and take it only if the ledger does not have it by then.
    """

    def __init__(self, sessions: Sessions, clock: Clock) -> None:
        self._sessions = sessions
        self._clock = clock
        self._waiting: asyncio.Queue[Incoming] = asyncio.Queue(MAX_WAITING_REPORTS)
        self._held: list[tuple[float, int, Incoming]] = []
        self._numbers = itertools.count()

    def put(self, incoming: Incoming) -> None:
        """A hello or ack came."""
        rank = self._sessions.peers.rank(incoming.owner)
        if rank and len(self._held) < MAX_WAITING_REPORTS:
            due = self._clock.monotonic() + rank * LATER_S
            heapq.heappush(self._held, (due, next(self._numbers), incoming))
            incoming.ack()  # another bridge takes it; a broker's window full of these would stop wakes
            return
        try:
            self._waiting.put_nowait(incoming)
        except asyncio.QueueFull:
            REPORTS_REFUSED.inc()
            incoming.ack()  # devices repeat their hello; a broker's window full of these would stop wakes, too

    async def run(self) -> None:
        """Until cancelled: process reports of many devices in one commit, answer, then acknowledge them to the broker.

        Reports that could not be stored are acknowledged, too: no answer is sent, so the device reports again. Without
        acknowledgement they would fill the broker's window and stop wakes.
        """
        async with Tasks() as tasks:
            tasks.start(self._run_held(), "held reports")
            await self._run()

    async def _run(self) -> None:
        later: Incoming | None = None
        while True:
            batch = {(first := later or await self._waiting.get()).owner: first}
            later = None
            while len(batch) < REPORTS_AT_ONCE and not self._waiting.empty() and later is None:
                incoming = self._waiting.get_nowait()
                if incoming.owner in batch:
                    later = incoming
                else:
                    batch[incoming.owner] = incoming
            await self._take(list(batch.values()))
            for incoming in batch.values():
                incoming.ack()

    async def _run_held(self) -> None:
        while True:
            await self._clock.sleep(LOOK_EVERY_S)
            batch: dict[str, Incoming] = {}
            while (
                self._held
                and self._held[0][0] <= self._clock.monotonic()
                and len(batch) < REPORTS_AT_ONCE
                and self._held[0][2].owner not in batch
            ):
                incoming = heapq.heappop(self._held)[2]
                batch[incoming.owner] = incoming
            if batch:
                await self._take(list(batch.values()), waited=True)

    async def _take(self, batch: list[Incoming], *, waited: bool = False) -> None:
        reports = [
            (incoming.owner, incoming.message)
            for incoming in batch
            if isinstance(incoming.message, Hello | Ack) and not incoming.retained
        ]
        try:
            await self._sessions.reports(reports, waited=waited)
        except StoreError as error:
            log.warning("reports_not_stored", count=len(reports), error=str(error))
        except Exception:
            log.exception("reports_failed", devices=[device_id for device_id, _ in reports])
