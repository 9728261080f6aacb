"""Runs the effects of a commit: memory first, then devices, then the one subscriber of events."""

from collections.abc import Callable, Iterable
from typing import get_args

from bridge.sessions.devices import Devices
from bridge.sessions.events import (
    Event,
    LogoutConfirmed,
    LogoutQueued,
    SessionEnded,
    SessionOpened,
    UserLoggedOut,
    events_of,
)
from bridge.sessions.memory import LedgerMemory
from bridge.sessions.rules.device_session import Answer, DeviceSession
from bridge.storage.news import News
from bridge.storage.records import Audit, Change, Departed
from contract.clock import Clock, iso
from contract.messages import Login, LogoutReason, new_id
from contract.topics import LOGIN, LOGOUT
from infra.telemetry import CounterFamily, HistogramFamily, get_logger

CONFIRMED = HistogramFamily(
    "sarvis_logout_confirm_seconds",
    "Service time from a log-out to the confirmation of its device",
    (0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0, 900.0, 3600.0, 86400.0),
)

LOGOUTS = CounterFamily(
    "sarvis_logouts", "Log-outs of which a device is to be told, by reason", "reason", get_args(LogoutReason)
).counts
"""Of several bridges each counts its own."""

log = get_logger("sessions")

OnEvent = Callable[[Event], None]


class Effects:
    """Tells what was committed, in the order of the commit.

    Args:
        on_event: called for each event, when memory has followed it.
    """

    def __init__(self, clock: Clock, memory: LedgerMemory, devices: Devices, on_event: OnEvent) -> None:
        self._clock = clock
        self._memory = memory
        self._devices = devices
        self._on_event = on_event
        self.follows = False
        """The event that is told now is of another bridge's doing."""

    def decided(self, device_sessions: Iterable[DeviceSession]) -> None:
        """What the rules decided on these devices is on disk."""
        for device_session in device_sessions:
            self.committed(device_session.changes)
            self.publish(device_session.device.device_id, device_session.answers)

    def committed(self, changes: Iterable[Change]) -> None:
        """These rows are on disk."""
        changes = list(changes)
        confirmed = {line.session_id for line in changes if isinstance(line, Audit) and line.event == "settled"}
        for event in events_of(changes):
            if isinstance(event, LogoutConfirmed) and event.session_id in confirmed:
                self._measure(event)
            self._remember(event)
            self._on_event(event)

    def follow(self, news: Iterable[News]) -> None:
        """Another bridge has changed the ledger, and has sent the commands to the devices."""
        self.follows = True
        try:
            for change in (change for row in news for change in row.changes):
                self.committed([change])
                if isinstance(change, Departed):
                    self._memory.liveness.left(change.uid)
                    self.logged_out(change.uid, change.reason)
        finally:
            self.follows = False

    def logged_out(self, uid: str, reason: LogoutReason) -> None:
        """All that the log-out of this user changed is on disk, and its effects have run."""
        log.info("user_logged_out", uid=uid, reason=reason)
        self._on_event(UserLoggedOut(uid, reason))

    def publish(self, device_id: str, answers: Iterable[Answer]) -> None:
        """Send commands to a device, in this order."""
        for answer in answers:
            self._devices.send(LOGIN if isinstance(answer, Login) else LOGOUT, device_id, answer)

    def poke(self, device_id: str, uid: str) -> None:
        """Ask a device to say hello now."""
        self._devices.send(LOGIN, device_id, Login(id=new_id(), uid=uid, issued_at=iso(self._clock.utc_now())))

    def _measure(self, event: LogoutConfirmed) -> None:
        queued_s = self._memory.outbox.queued_s(event.device_id, event.session_id)
        if queued_s is not None:
            CONFIRMED.observe_ms([max(self._memory.liveness.now() - queued_s, 0.0) * 1000])

    def _remember(self, event: Event) -> None:
        memory = self._memory
        match event:
            case SessionOpened(session):
                memory.active_sessions.opened(session)
                log.info("session_opened", uid=session.uid, device_id=session.device_id)
            case SessionEnded(session):
                memory.active_sessions.ended(session)
                log.info("session_ended", uid=session.uid, device_id=session.device_id, reason=session.ended)
            case LogoutQueued(row):
                memory.outbox.add(row, self._clock.monotonic())
                LOGOUTS[row.reason] += not self.follows
            case LogoutConfirmed(device_id, session_id):
                memory.outbox.settled(device_id, session_id)
                log.info("logout_confirmed", device_id=device_id)
            case _:
                pass
