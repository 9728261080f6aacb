"""Carries out what a bridge asks about the model: fetch, test, exchange, tell, and watch what came of it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from contract.clock import Clock
from contract.errors import MessageError, SarvisError
from contract.messages import ModelOrder, ModelReport, ModelStatus
from contract.model_manifest import Manifest
from edge_node.models.fetch import fetch
from edge_node.models.folder import ModelFolder, Signed
from edge_node.models.selftest import check
from edge_node.wakeword.native import NativeDetector
from infra import files
from infra.settings.edge import EdgeSettings
from infra.tasks import Tasks
from infra.telemetry import get_logger

TRIES = 3
AGAIN_S = 10.0
LIVES_S = 60.0
TELL_EVERY_S = 900.0
WATCHED_S = 48 * 3600.0
HOUR_S = 3600.0
GOLDEN = "golden.wav"

log = get_logger("models")


class Counted(NamedTuple):
    """What the node heard since its start."""

    wakes: int
    near: int


@dataclass(frozen=True, slots=True)
class Watch:
    """A model that came, and how often the one before it woke and nearly did, an hour."""

    order: str
    since: float
    counted: Counted
    wakes_before: float | None
    near_before: float | None


class ModelUpdater:
    """One request at a time, the newest; `run` it as a task.

    Args:
        swap: let this model hear as soon as it has heard for as long as it needs; returns when it does.
            Raises MessageError if it did not come to that; then the old one still hears.
        own: opens the device's own model; blocks.
        voice: whether a person's voice was enrolled, for the device's own model.
        counted: what was heard until now.
        tell: sends a report.
    """

    def __init__(
        self,
        settings: EdgeSettings,
        folder: ModelFolder,
        clock: Clock,
        *,
        swap: Callable[[NativeDetector, Path | None], Awaitable[None]],
        own: Callable[[], NativeDetector],
        voice: Callable[[], bool],
        counted: Callable[[], Counted],
        tell: Callable[[ModelReport], None],
        model: str,
        ca_file: Path | None,
    ) -> None:
        self._settings = settings
        self._folder = folder
        self._clock = clock
        self._swap = swap
        self._own = own
        self._voice = voice
        self._counted = counted
        self._tell = tell
        self._model = model
        self._ca_file = ca_file
        self._newest: ModelOrder | None = None
        self._came = asyncio.Event()
        self._began = clock.monotonic()
        self._watch: Watch | None = None

    def order(self, order: ModelOrder) -> None:
        """A request of the bridge."""
        self._newest = order
        self._came.set()

    async def run(self) -> None:
        """Until cancelled."""
        async with Tasks() as tasks:
            tasks.start(self._look(), "models watched")
            await self._carry_out_all()

    async def _carry_out_all(self) -> None:
        while True:
            await self._came.wait()
            self._came.clear()
            if self._newest is not None:
                await self._carry_out(self._newest)

    async def _look(self) -> None:
        await self._clock.sleep(LIVES_S)
        self._note_life()
        while True:
            await self._clock.sleep(TELL_EVERY_S)
            self._note_life()
            watch = self._watch
            if watch is not None and self._clock.monotonic() - watch.since <= WATCHED_S:
                self._say(watch.order, "running")

    def _note_life(self) -> None:
        try:
            if self._watch is None or self._clock.monotonic() - self._watch.since >= LIVES_S:
                self._folder.lived()
        except OSError as error:
            log.warning("model_not_noted", why=str(error))

    async def _carry_out(self, order: ModelOrder) -> None:
        signed = Signed(order.manifest, order.signature) if order.manifest else None
        done: ModelStatus = "returned" if order.is_back else "running"
        if self._folder.now == signed:
            self._say(order.id, done)
            return
        if (kept := self._why_kept()) is not None:
            self._say(order.id, "kept", kept)
            return
        try:
            await self._exchange(order, signed)
        except (MessageError, SarvisError, OSError) as error:
            log.error("model_refused", order=order.id, why=str(error))
            self._say(order.id, "failed", str(error)[:500])
            return
        self._say(order.id, done)

    def _why_kept(self) -> str | None:
        if self._settings.engine != "native":
            return f"its settings name another engine: {self._settings.engine}"
        if self._settings.model is not None:
            return "its settings name a model: edge.model"
        return "a voice was enrolled for its own model" if self._voice() else None

    async def _exchange(self, order: ModelOrder, signed: Signed | None) -> None:
        before = self._folder.now
        if signed is None:
            path, detector = None, await asyncio.to_thread(self._own)
        else:
            manifest = self._folder.checked(signed)
            path, detector = await self._fetched(order, manifest)
        counted, hours = self._counted(), (self._clock.monotonic() - self._began) / HOUR_S
        # The old model hears meanwhile, and the disk has the new one before it does: a power cut leaves one of them.
        self._folder.use(signed)
        try:
            await self._swap(detector, path)
        except MessageError:
            self._folder.use(before)
            raise
        self._model = detector.model
        known = hours * HOUR_S >= LIVES_S and self._watch is None
        self._watch = Watch(
            order.id,
            self._clock.monotonic(),
            counted,
            counted.wakes / hours if known else None,
            counted.near / hours if known else None,
        )
        self._folder.tidy()

    async def _fetched(self, order: ModelOrder, manifest: Manifest) -> tuple[Path, NativeDetector]:
        url = self._settings.bridge_url or order.url
        path = await asyncio.to_thread(self._folder.whole, manifest)
        if path is None:
            data = await self._again(url, order.ticket, manifest.sha256, manifest.size)
            path = await asyncio.to_thread(self._folder.put, manifest, data)
        golden = path.with_name(GOLDEN)
        sound = await self._again(url, order.ticket, manifest.golden, manifest.golden_size)
        await asyncio.to_thread(files.write, golden, sound)
        detector = await asyncio.to_thread(check, path, golden, manifest, second_stage=self._settings.second_stage)
        return path, detector

    async def _again(self, url: str, ticket: str, sha256: str, size: int) -> bytes:
        for _ in range(TRIES - 1):
            try:
                return await fetch(url, ticket, sha256, size, self._ca_file)
            except MessageError as error:
                log.warning("model_not_fetched", why=str(error))
            await self._clock.sleep(AGAIN_S)
        return await fetch(url, ticket, sha256, size, self._ca_file)

    def _say(self, order: str, status: ModelStatus, reason: str = "") -> None:
        rates: dict[str, float | None] = {}
        watch = self._watch
        if watch is not None and watch.order == order and status == "running":
            hours = max((self._clock.monotonic() - watch.since) / HOUR_S, 1e-6)
            now = self._counted()
            rates = {
                "hours": round(hours, 3),
                "wakes_per_hour": round((now.wakes - watch.counted.wakes) / hours, 2),
                "near_per_hour": round((now.near - watch.counted.near) / hours, 2),
                "wakes_before": watch.wakes_before,
                "near_before": watch.near_before,
            }
        report = {"id": order, "status": status, "reason": reason, "model": self._model, **rates}
        self._tell(ModelReport.model_validate(report))
