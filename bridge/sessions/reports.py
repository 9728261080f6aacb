"""Takes what devices report: which session they hold, what they ended, and whether they are online."""

from collections.abc import Mapping, Sequence

from prometheus_client import Counter

from bridge.sessions.durable_deadlines import DurableDeadlines
from bridge.sessions.effects import Effects
from bridge.sessions.errors import BEHIND
from bridge.sessions.ledger import Ledger
from bridge.sessions.load import DeviceSessionLoader
from bridge.sessions.memory import LedgerMemory
from bridge.sessions.rules.device_session import DeviceSession
from bridge.sessions.rules.presence import Presence
from bridge.sessions.rules.rewinds import Rewinds
from bridge.storage.records import By, Change, DurableDeadline, Session, signed
from contract.clock import Clock
from contract.messages import Ack, DeviceStatus, Hello
from infra.telemetry import REGISTRY, get_logger

BEHIND_REPORTS = Counter(
    "sarvis_reports_behind_total", "Reports that were older than the recorded state of their device", registry=REGISTRY
)

log = get_logger("sessions")


class Reports:
    """Answers reports (B3), and keeps in memory which devices are online and which run with an older state."""

    def __init__(
        self,
        ledger: Ledger,
        memory: LedgerMemory,
        durable_deadlines: DurableDeadlines,
        device_sessions: DeviceSessionLoader,
        effects: Effects,
        clock: Clock,
        *,
        offline_grace_s: float,
    ) -> None:
        self._ledger = ledger
        self._memory = memory
        self._liveness = memory.liveness
        self._outbox = memory.outbox
        self._durable_deadlines = durable_deadlines
        self._device_sessions = device_sessions
        self._effects = effects
        self._clock = clock
        self._presence = Presence(offline_grace_s)
        self._rewinds = Rewinds()

    async def take(self, reports: Sequence[tuple[str, Hello | Ack]], *, waited: bool = False) -> None:
        """Answer them in one commit; each device at most once. Raises StoreError.

        `waited`: another bridge was to answer them; those that it has taken are not answered again.
        """
        async with self._ledger.exclusive() as turn:
            device_sessions: list[DeviceSession] = []
            durable_deadlines: dict[str, DurableDeadline] = {}
            async with turn.transaction() as transaction:
                loaded = await self._device_sessions.load_all(
                    transaction, {device_id: _named(report) for device_id, report in reports}
                )
                users = await self._memory.users(transaction, _users(reports, loaded))
                changes: list[Change] = []
                adopted_here: dict[str, Session] = {}
                for device_id, report in reports:
                    device_session = loaded[device_id]
                    if waited and _is_taken(device_session, report):
                        device_sessions.append(device_session)
                        continue
                    # Of devices with copies of one state, only the first runs the session that both report.
                    device_session.known.update(
                        {name: adopted_here[name] for name in _named(report) if name in adopted_here}
                    )
                    nonce = report.nonce if isinstance(report, Hello) else None
                    device_session.answer(report, nonce, users)
                    by = By(f"device:{device_session.device.device_id}", via="mqtt")
                    changes += signed(device_session.changes, by)
                    device_sessions.append(device_session)
                    adopted = device_session.adopted
                    if adopted is not None:
                        adopted_here[adopted.session_id] = adopted
                        if not users.alive(adopted.uid):
                            durable_deadlines[adopted.uid] = self._liveness.promise(adopted.uid)
                await transaction.save([*changes, *self._durable_deadlines.dated(durable_deadlines.values())])
            for promise in durable_deadlines.values():
                self._liveness.begin(promise)
            self._effects.decided(device_sessions)
        for device_session, (_, report) in zip(device_sessions, reports, strict=True):
            self._place(device_session, report)

    def status(self, device_id: str, status: DeviceStatus) -> None:
        """The device's status or last will came."""
        if status.state == "online":
            self._there(device_id, status.boot)
        else:
            self._presence.gone(device_id, status.boot, self._clock.monotonic())

    def online(self, device_id: str, now: float) -> bool:
        """Is the device there, as far as it and its last will say?"""
        return self._presence.online(device_id, now)

    def is_behind(self, device_id: str) -> bool:
        """Does the device run with an older copy of its state, and not go beyond it?"""
        return self._rewinds.stuck(device_id)

    def _place(self, device_session: DeviceSession, report: Hello | Ack) -> None:
        """The position of a report among those of its device; a late one does not show that the device is online."""
        device = device_session.device
        if device_session.is_behind:
            BEHIND_REPORTS.inc()
            now = self._clock.monotonic()
            if isinstance(report, Hello) and self._rewinds.older(device.device_id, device.boot, now):
                log.warning(
                    "device_behind", device_id=device.device_id, boot=report.boot, known_boot=device.boot, advice=BEHIND
                )
            return
        if self._rewinds.believed(device.device_id, report.boot):
            log.warning(
                "device_state_went_back",
                device_id=device.device_id,
                boot=report.boot,
                advice="it had an older copy of its state (a restored card, a snapshot) and has caught up",
            )
        self._there(device.device_id, report.boot)

    def _there(self, device_id: str, boot: int) -> None:
        self._presence.seen(device_id, boot)
        self._outbox.awake(device_id, self._clock.monotonic())


def _is_taken(device_session: DeviceSession, report: Hello | Ack) -> bool:
    """Whether the ledger has this report or a later one."""
    device = device_session.device
    return device.install_id == report.install_id and (device.boot, device.seq) >= (report.boot, report.seq)


def _users(reports: Sequence[tuple[str, Hello | Ack]], loaded: Mapping[str, DeviceSession]) -> set[str]:
    """Whom the rules may ask about."""
    active = (session.active.uid for session in loaded.values() if session.active is not None)
    told = (uid for _, report in reports for uid in (report.uid, report.claim_uid) if uid is not None)
    return {*active, *told}


def _named(report: Hello | Ack) -> set[str]:
    """The sessions that a report tells of."""
    named = {entry.session_id for entry in report.ended}
    return named if report.session_id is None else named | {report.session_id}
