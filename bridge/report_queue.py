"""Queues devices' reports, so that those of many are stored in one commit."""

import asyncio

from prometheus_client import Counter

from bridge.sessions.service import Sessions
from bridge.storage.store import StoreError
from contract.messages import Ack, Hello
from infra.mqtt.session import Incoming
from infra.telemetry import REGISTRY, get_logger

MAX_WAITING_REPORTS = 10_000
REPORTS_AT_ONCE = 100

REPORTS_REFUSED = Counter(
    "sarvis_reports_refused_total", "Reports dropped because too many were waiting", registry=REGISTRY
)

log = get_logger("bridge")


class ReportQueue:
    """At most 10,000 reports; what finds no room is acknowledged all the same, for devices say hello again."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._waiting: asyncio.Queue[Incoming] = asyncio.Queue(MAX_WAITING_REPORTS)

    def put(self, incoming: Incoming) -> None:
        """A hello or ack came."""
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

    async def _take(self, batch: list[Incoming]) -> None:
        reports = [
            (incoming.owner, incoming.message)
            for incoming in batch
            if isinstance(incoming.message, Hello | Ack) and not incoming.retained
        ]
        try:
            await self._sessions.reports(reports)
        except StoreError as error:
            log.warning("reports_not_stored", count=len(reports), error=str(error))
        except Exception:
            log.exception("reports_failed", devices=[device_id for device_id, _ in reports])
