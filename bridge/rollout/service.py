"""Carries rollouts on: reads and writes their rows, asks devices, takes their answers. Run `run` as a task."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from bridge.auth.tickets import ticket
from bridge.auth.tokens import SigningKey
from bridge.rollout import rules
from bridge.storage.records import By
from bridge.storage.rollouts import OWN, Candidate, Model, Rollout, RolloutDevice, RolloutState, RolloutStore, line_of
from bridge.storage.store import StoreError
from contract.clock import Clock, iso
from contract.messages import BACK, Hello, ModelOrder, ModelReport
from contract.topics import MODEL
from infra.mqtt.session import MqttSession
from infra.settings.bridge import RolloutSettings
from infra.telemetry import get_logger

LOOK_EVERY_S = 2.0
MOST_WAITING = 10_000
CANDIDATES_EVERY_S = 60.0
BRIDGE = By("bridge", via="mqtt")

log = get_logger("rollout")


class RolloutService:
    """One bridge at a time carries rollouts on; the others know nothing of them and may take over at any moment.

    Args:
        online: whether a device is there.
        is_first: whether this bridge is the one.
        keys: sign tickets for downloads; None where no credentials are required.
    """

    def __init__(
        self,
        settings: RolloutSettings,
        store: RolloutStore,
        mqtt: MqttSession,
        clock: Clock,
        *,
        online: Callable[[str], bool],
        is_first: Callable[[], bool],
        keys: Callable[[], Sequence[SigningKey]] | None,
    ) -> None:
        self._url = settings.bridge_url or ""
        self._store = store
        self._mqtt = mqtt
        self._clock = clock
        self._online = online
        self._is_first = is_first
        self._keys = keys
        self._heard: asyncio.Queue[tuple[str, Hello | ModelReport]] = asyncio.Queue(MOST_WAITING)
        self._devices: dict[int, dict[str, RolloutDevice]] = {}
        self._models: dict[str, Model] = {}
        self._over: dict[int, RolloutState] = {}
        """Rollouts in which nothing is to be done until a device says something, or an operator changes the state."""
        self._candidates: Sequence[Candidate] = ()
        self._looked_at = float("-inf")

    def heard(self, device_id: str, message: Hello | ModelReport) -> None:
        """A device said what it runs, or answered; of too many the newest are dropped, for devices are asked again."""
        if self._is_first() and not self._heard.full():
            self._heard.put_nowait((device_id, message))

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                if self._is_first():
                    await self.look()
                else:
                    self._forget()
            except StoreError as error:
                self._forget()
                log.warning("rollouts_wait", error=str(error))
            except Exception:
                self._forget()
                log.exception("rollouts_failed")
            await self._clock.sleep(LOOK_EVERY_S)

    def _forget(self) -> None:
        """Another bridge may go on: what is in memory is no longer what the ledger has."""
        self._devices.clear()
        self._over.clear()

    async def look(self) -> None:
        """Take what devices said, then carry each rollout on; raises StoreError."""
        rollouts = await self._store.rollouts()
        heard = [self._heard.get_nowait() for _ in range(self._heard.qsize())]
        if not rollouts or (not heard and all(self._over.get(rollout.number) == rollout.state for rollout in rollouts)):
            return
        await self._read(rollouts)
        newest = {name: rollout.number for rollout in rollouts for name in self._devices[rollout.number]}
        taken = self._taken(heard, newest, {rollout.number: rollout for rollout in rollouts})
        for rollout in rollouts:
            rows = taken.get(rollout.number, {})
            is_over = not rows and self._over.get(rollout.number) == rollout.state
            if not is_over and not await self._carry_on(rollout, rollouts, newest, rows):
                self._forget()  # an operator has changed it meanwhile: look again
                return

    async def _read(self, rollouts: Sequence[Rollout]) -> None:
        now = self._clock.monotonic()
        if any(rollout.model not in self._models for rollout in rollouts):
            self._models = {model.sha256: model for model in await self._store.models()}
        if now - self._looked_at >= CANDIDATES_EVERY_S or any(one.number not in self._devices for one in rollouts):
            self._candidates = await self._store.candidates()
            self._looked_at = now
        for rollout in rollouts:
            if rollout.number not in self._devices:
                self._devices[rollout.number] = dict(await self._store.devices_of(rollout.number))

    def _taken(
        self,
        heard: Sequence[tuple[str, Hello | ModelReport]],
        newest: Mapping[str, int],
        rollouts: Mapping[int, Rollout],
    ) -> dict[int, dict[str, RolloutDevice]]:
        """The rows after what devices said, by rollout."""
        taken: dict[int, dict[str, RolloutDevice]] = {}
        for device_id, message in heard:
            number = newest.get(device_id)
            if number is None:
                continue
            mine = taken.setdefault(number, {})
            row = mine.get(device_id) or self._devices[number][device_id]
            after = self._after(row, message, rollouts[number])
            if after != row:
                mine[device_id] = after
        return taken

    def _after(self, row: RolloutDevice, message: Hello | ModelReport, rollout: Rollout) -> RolloutDevice:
        if isinstance(message, Hello):
            if row.state in {"asked", "returning"}:
                return replace(row, asked_at=None)  # it came just now: ask it at once
            model = self._models.get(rollout.model)
            return row if model is None else rules.runs_another(row, message.model, model.name)
        if message.id != _order_id(row):
            return row
        log.info(
            "model_answer",
            device_id=row.device_id,
            rollout=rollout.number,
            status=message.status,
            reason=message.reason,
        )
        return rules.answered(row, message)

    async def _carry_on(
        self,
        rollout: Rollout,
        rollouts: Sequence[Rollout],
        newest: Mapping[str, int],
        taken: dict[str, RolloutDevice],
    ) -> bool:
        """Whether it is written, and devices were asked."""
        rows = self._devices[rollout.number] | taken
        mine = {name: row for name, row in rows.items() if newest.get(name, rollout.number) == rollout.number}
        done = rules.step(
            rollout,
            mine,
            rules.meant(rollout, self._candidates),
            self._clock.utc_now().timestamp(),
            self._online,
            lambda device_id: self._before(device_id, rollout, rollouts),
        )
        changed = {**taken, **{row.device_id: row for row in done.devices}}
        if changed or done.rollout != rollout:
            at = iso(self._clock.utc_now())
            lines = [line_of(rollout.number, text, at, BRIDGE) for text in done.told]
            if not await self._store.save(rollout, done.rollout, list(changed.values()), lines):
                return False
            for text in done.told:
                log.info("rollout", number=rollout.number, told=text)
        self._devices[rollout.number] = rows | changed
        if rules.is_over(done.rollout, self._devices[rollout.number].values()):
            self._over[rollout.number] = done.rollout.state
        else:
            self._over.pop(rollout.number, None)
        for row in done.asked:
            self._ask(row, done.rollout)
        return True

    def _before(self, device_id: str, rollout: Rollout, rollouts: Sequence[Rollout]) -> str:
        """The model that a device got by the newest earlier rollout that it is still in; else its own."""
        for earlier in reversed([one for one in rollouts if one.number < rollout.number]):
            row = self._devices[earlier.number].get(device_id)
            if row is not None and row.state == "running":
                return earlier.model
            if row is not None and row.state in {"returning", "returned", "failed"}:
                return row.before
        return OWN

    def _ask(self, row: RolloutDevice, rollout: Rollout) -> None:
        wanted = row.before if row.state == "returning" else rollout.model
        model = self._models.get(wanted)
        if model is None and wanted != OWN:
            log.error("model_missing", sha256=wanted, rollout=rollout.number)
            return
        message = ModelOrder(
            id=_order_id(row),
            manifest="" if model is None else model.manifest,
            signature="" if model is None else model.signature,
            url=self._url,
            ticket="" if model is None or self._keys is None else self._ticket(row.device_id),
        )
        self._mqtt.send(MODEL, row.device_id, message)

    def _ticket(self, device_id: str) -> str:
        keys = [] if self._keys is None else self._keys()
        return ticket(keys[0], device_id, now=self._clock.utc_now().timestamp()) if keys else ""


def _order_id(row: RolloutDevice) -> str:
    return f"{row.rollout}{BACK}" if row.state in {"returning", "returned"} else f"{row.rollout}"
