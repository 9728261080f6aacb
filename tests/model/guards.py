"""Guards: the real code without one of its rules, for the time of a run."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from unittest.mock import patch

from bridge.sessions.rules.deadlines import ServiceTime
from bridge.sessions.rules.device_session import DeviceSession, UserLiveness
from bridge.sessions.rules.liveness import Liveness
from bridge.storage.records import PendingLogout
from contract.messages import Ack, Hello, Login, LogoutReason, Report
from edge_node.session.rules import Decision, EdgeSession
from tests.model.explored import Explored


def _ending_writes_no_row() -> AbstractContextManager[object]:
    real = DeviceSession.end

    def end(self: DeviceSession, reason: LogoutReason, why: str | None = None) -> PendingLogout | None:
        row = real(self, reason, why)
        if row is not None:
            self.changes.remove(row)
            del self.pending[row.session_id]
        return None

    return patch.object(DeviceSession, "end", end)


def _not_held_settles() -> AbstractContextManager[object]:
    real = DeviceSession._take_ended

    def take_ended(self: DeviceSession, report: Report, people: UserLiveness) -> None:
        real(self, report, people)
        for row in list(self.pending.values()):
            if row.session_id != report.session_id:
                self._settle(row, "settled", "not held")

    return patch.object(DeviceSession, "_take_ended", take_ended)


def _ended_list_not_looked_at() -> AbstractContextManager[object]:
    real = EdgeSession.login

    def login(self: EdgeSession, login: Login, now: float) -> Decision:
        ended = self.state.ended
        self.state = replace(self.state, ended=())
        decision = real(self, login, now)
        self.state = replace(self.state, ended=(*ended, *self.state.ended))
        return decision if decision.save is None else replace(decision, save=self.state)

    return patch.object(EdgeSession, "login", login)


def _any_nonce() -> AbstractContextManager[object]:
    real = EdgeSession.login

    def login(self: EdgeSession, login: Login, now: float) -> Decision:
        if login.re is not None:
            self._nonce = login.re
        return real(self, login, now)

    return patch.object(EdgeSession, "login", login)


def _lease_from_receipt() -> AbstractContextManager[object]:
    real = EdgeSession.login

    def login(self: EdgeSession, login: Login, now: float) -> Decision:
        self._nonce_at = now
        return real(self, login, now)

    return patch.object(EdgeSession, "login", login)


def _no_lapse() -> AbstractContextManager[object]:
    return patch.object(EdgeSession, "tick", lambda _self, _now: Decision())


def _outages_count() -> AbstractContextManager[object]:
    def read(self: ServiceTime, monotonic_now: float) -> float:
        return self._kept + max(monotonic_now - self._kept_at, 0.0)

    return patch.object(ServiceTime, "read", read)


def _promises_not_raised() -> AbstractContextManager[object]:
    """Only the first sign of life is promised on disk; what comes later is answered at once."""
    return patch.object(Liveness, "_covers", lambda self, uid, _latest_s: uid in self._durable)


def _hello_brings_no_log_outs() -> AbstractContextManager[object]:
    real = DeviceSession.answer

    def answer(self: DeviceSession, report: Hello | Ack, nonce: str | None, people: UserLiveness) -> None:
        waiting = [row.command() for row in self.pending.values()]
        real(self, report, nonce, people)
        self.answers[:] = [answer for answer in self.answers if answer not in waiting]

    return patch.object(DeviceSession, "answer", answer)


def _acknowledged_before_the_write() -> AbstractContextManager[object]:
    return patch.object(Explored, "acknowledges_first", new=True)


def _lost_history_believed() -> AbstractContextManager[object]:
    return patch.object(DeviceSession, "_take_lost_history", lambda _self, _report: None)


def _nobody_is_told_what_is_known() -> AbstractContextManager[object]:
    return patch.object(DeviceSession, "_tell_what_is_known", lambda _self, _report: None)


GUARDS: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "outbox": _ending_writes_no_row,
    "B2-settle": _not_held_settles,
    "fence-ended-list": _ended_list_not_looked_at,
    "fence-nonce": _any_nonce,
    "lease-lapses": _no_lapse,
    "lease-from-hello": _lease_from_receipt,
    "service-time-credit": _outages_count,
    "promise-on-disk": _promises_not_raised,
    "hello-reconcile": _hello_brings_no_log_outs,
    "E1-order": _acknowledged_before_the_write,
    "B3-lost-history": _lost_history_believed,
    "B7-behind": _nobody_is_told_what_is_known,
}
