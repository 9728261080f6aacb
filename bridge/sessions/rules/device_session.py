"""The rules of a device's session: who is logged in, and which commands it still needs. No I/O; time and ids are given.

A rule works on a `DeviceSession`: one device's rows, read in one transaction. It leaves the rows to write and the
commands to publish after the commit. Rule numbers (B1, B3 ...) are those of docs/sessions.md.
"""

from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from bridge.storage.records import Audit, AuditEvent, Change, Device, PendingLogout, Session, SessionEnd, Settled
from contract.messages import LEGACY_DEVICE, Hello, Login, Logout, LogoutReason, Report

Answer = Login | Logout

MAX_WAITING = 64
"""Log-outs that may wait for one device: users who log in and out there, or a device that invents sessions, add one
each time. The oldest is dropped: a device that still holds its session reports it, and gets its log-out again (B3).
"""

MOST_CHARACTERS = 64
"""Of the name of a version or a model."""

NO_USER = "-"
"""For a message that must name a user when there is none."""


class UserLiveness(Protocol):
    """What the rules need to know of users."""

    def alive(self, uid: str) -> bool:
        """Whether the user connected, sent a heartbeat or logged in within the time-out without a later log-out."""
        ...

    def lease_s(self, uid: str) -> float:
        """Seconds for which this user may use a device that receives nothing from the bridge."""
        ...

    def first_lease_s(self) -> float:
        """The same for a user who becomes alive now."""
        ...

    def may_adopt(self, uid: str) -> bool:
        """Whether a session that the ledger does not have may be adopted for this user."""
        ...


@dataclass
class DeviceSession:
    """One device's rows in one transaction, and what the rules decide on them."""

    device: Device
    active: Session | None
    pending: dict[str, PendingLogout]
    known: dict[str, Session]
    """Sessions named in the report, by id, whatever their state."""
    issued_at: str
    new_id: Callable[[], str]
    now_s: float = 0.0
    """Service time."""
    from_disk: bool = False
    """The active session was opened by an earlier run of this service."""
    strict: bool = False
    """Credentials are required: a device claims and keeps only the user whom an operator assigned to it."""
    changes: list[Change] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    adopted: Session | None = None
    is_behind: bool = False
    """The report was older than the recorded state: it was ignored."""

    def open(self, uid: str, reason: str) -> Session:
        """Log a user in; another user there is replaced (B1). The same user keeps the session."""
        if self.active is not None:
            if self.active.uid == uid:
                return self.active
            self.end("replaced")
        if self.device.logout_url is not None:
            # HTTP has no generations: a log-out posted from now on would hit the new session.
            self.supersede(list(self.pending.values()))
        self._raise_generation()
        session = Session(self.new_id(), self.device.device_id, uid, self.device.generation)
        self._write(session, "opened", reason)
        self.active = session
        return session

    def end(self, reason: LogoutReason, why: str | None = None) -> PendingLogout | None:
        """End the active session and put its log-out into the outbox (B1); None if no user is logged in."""
        if self.active is None:
            return None
        self._raise_generation()
        ended = replace(self.active, ended=reason)
        self._write(ended, "ended", why or reason)
        row = self._waiting(ended.session_id, ended.uid, reason)
        self._queue(row)
        self.active = None
        return row

    def supersede(self, rows: Iterable[PendingLogout]) -> None:
        """Remove log-outs of this device that must no longer be posted."""
        for row in rows:
            self._settle(row, "superseded", "logged in again")

    def answer(self, report: Report, nonce: str | None, liveness: UserLiveness) -> None:
        """Make ledger and device agree (B3); `nonce` is that of a hello, None for an ack."""
        self.answers.clear()
        self.is_behind = self._is_older(report)
        if self.is_behind:
            self._tell_what_is_known(report)
            return
        claim = report.claim_uid if self._may_have(report.claim_uid) else None
        self._save_device(
            install_id=report.install_id,
            boot=report.boot,
            seq=report.seq,
            generation=max(self.device.generation, report.generation),
            claim_uid=claim,
            seen_at=self.issued_at,
            **_runs(report),
        )
        self._take_ended(report, liveness)
        self._take_lost_history(report)
        self._take_held(report, liveness)
        if nonce is not None and self.active is None and claim is not None and liveness.alive(claim):
            self.open(claim, "claim")
        for row in self.pending.values():
            self._say(row.command())
        if nonce is not None and self.active is not None:
            self._grant(self.active, nonce, liveness)

    def _is_older(self, report: Report) -> bool:
        same_install = self.device.install_id == report.install_id
        return same_install and (report.boot, report.seq) < (self.device.boot, self.device.seq)

    def _tell_what_is_known(self, report: Report) -> None:
        """B7: a message came late, or the device's state went back; the device can tell which, and continue beyond."""
        self._say(
            Login(
                id=self.new_id(),
                uid=report.uid or report.claim_uid or self.device.claim_uid or NO_USER,
                re=report.install_id,
                boot=self.device.boot,
                seq=self.device.seq,
                issued_at=self.issued_at,
            )
        )

    def _take_ended(self, report: Report, liveness: UserLiveness) -> None:
        """B2 and B3: a session that the device reports as ended is ended, and its row settled.

        Nothing else does that.
        """
        for entry in report.ended:
            if self.active is not None and entry.session_id == self.active.session_id:
                uid = self.active.uid
                self._write(replace(self.active, ended=entry.reason), "ended", f"edge: {entry.reason}")
                self.active = None
                if entry.reason == "lapsed" and liveness.alive(uid):
                    self.open(uid, "came back after a lapse")
            row = self.pending.get(entry.session_id)
            if row is not None:
                self._settle(row, "settled", entry.reason)

    def _take_lost_history(self, report: Report) -> None:
        """B3: the device has received later commands than this ledger, which is a back-up: its session may be over."""
        active = self.active
        if active is None or not self.from_disk or report.session_id == active.session_id:
            return
        if report.generation > active.generation:
            self.end("operator", "the ledger was restored: its device has received later commands")

    def _take_held(self, report: Report, liveness: UserLiveness) -> None:
        """B3: the device holds a session that is not the active one: adopt it or end it there."""
        if report.session_id is None or report.uid is None:
            return
        if self.active is not None and report.session_id == self.active.session_id:
            return
        known = self.known.get(report.session_id)
        ours_may_be_old = self.active is None or self.from_disk
        if known is None and ours_may_be_old and self._may_have(report.uid) and liveness.may_adopt(report.uid):
            self.end("replaced", "its device runs a session that this ledger does not have")
            self._raise_generation()
            adopted = Session(report.session_id, self.device.device_id, report.uid, self.device.generation)
            self._write(adopted, "adopted", "reported by its device")
            self.active = self.adopted = adopted
        elif (known is not None or self.active is None) and report.session_id not in self.pending:
            reason = "operator" if known is None else _log_out_reason(known.ended)
            row = self._waiting(report.session_id, report.uid, reason)
            if len(self.pending) >= MAX_WAITING:
                self._say(row.command())  # as long as the device holds it, each of its reports causes this again
            else:
                self._queue(row)

    def _grant(self, session: Session, nonce: str, liveness: UserLiveness) -> None:
        begins = session is self.adopted and not liveness.alive(session.uid)
        lease_s = liveness.first_lease_s() if begins else liveness.lease_s(session.uid)
        if lease_s > 0:
            self._say(
                Login(
                    id=self.new_id(),
                    uid=session.uid,
                    session_id=session.session_id,
                    generation=session.generation,
                    lease_s=round(lease_s, 3),
                    re=nonce,
                    issued_at=self.issued_at,
                )
            )

    def _waiting(self, session_id: str, uid: str, reason: LogoutReason) -> PendingLogout:
        return PendingLogout(
            self.new_id(),
            session_id,
            self.device.device_id,
            uid,
            self.device.generation,
            reason,
            self.issued_at,
            self.now_s,
            self.device.logout_url,
        )

    def _queue(self, row: PendingLogout) -> None:
        while len(self.pending) >= MAX_WAITING:
            self._settle(next(iter(self.pending.values())), "superseded", "too many log-outs wait for the device")
        self.changes.append(row)
        self.pending[row.session_id] = row
        self._say(row.command())

    def _settle(self, row: PendingLogout, event: AuditEvent, reason: str) -> None:
        self.pending.pop(row.session_id, None)
        self.changes += settle(row, event, reason, self.issued_at)

    def remove(self, *, give_up: bool = False) -> None:
        """An operator removes the device: its user is logged out there, and no user is logged in again.

        `give_up`: no log-out waits for the device's confirmation.
        """
        self.end("operator", "the device was removed")
        if self.device.state != "removed":
            self._save_device(state="removed", claim_uid=None, assigned_uid=None)
            self.changes.append(Audit(self.issued_at, "removed", "", self.device.device_id, "", "operator"))
        if give_up:
            for row in list(self.pending.values()):
                self._settle(row, "superseded", "the device was removed")

    def _may_have(self, uid: str | None) -> bool:
        """Whether the device may report by itself that this user is logged in there, or should be."""
        if self.device.state == "removed":
            return False
        return not self.strict or uid == self.device.assigned_uid

    def _raise_generation(self) -> None:
        self._save_device(generation=self.device.generation + 1)

    def _save_device(self, **fields: Any) -> None:
        known = {"state": "seen"} if self.device.state == "new" else {}
        self.device = replace(self.device, **{**known, **fields})
        self.changes.append(self.device)

    def _say(self, answer: Answer) -> None:
        if self.device.logout_url is None and answer not in self.answers:
            self.answers.append(answer)

    def _write(self, session: Session, event: AuditEvent, reason: str) -> None:
        self.changes.append(session)
        self.changes.append(Audit(self.issued_at, event, session.session_id, session.device_id, session.uid, reason))


def _runs(report: Report) -> dict[str, str]:
    """What a device says that it runs; what it leaves out stays as it was."""
    if not isinstance(report, Hello):
        return {}
    told = {"version": report.version, "model": report.model}
    return {name: _plain(text) for name, text in told.items() if _plain(text)}


def _plain(text: str) -> str:
    """A device may say anything: only the beginning is kept, and nothing that a terminal obeys."""
    return "".join(letter for letter in text[:MOST_CHARACTERS] if letter.isprintable())


def settle(row: PendingLogout, event: AuditEvent, reason: str, at: str) -> list[Change]:
    """Remove a row from the outbox and note why."""
    return [
        Settled(row.device_id, row.session_id),
        Audit(at, event, row.session_id, row.device_id, row.uid, reason),
    ]


def user_is_back(rows: Iterable[PendingLogout], done: Container[str], at: str) -> list[Change]:
    """A user's log-outs that HTTP devices have not accepted must no longer reach them, except `done` devices."""
    changes: list[Change] = []
    for row in rows:
        if row.device_id not in done:
            changes += settle(row, "superseded", "the user is back", at)
    return changes


def without_session(
    uid: str, reason: LogoutReason, url: str | None, at: str, now_s: float, new_id: Callable[[], str]
) -> list[Change]:
    """A user without sessions: the first guide's one device gets a log-out if its URL is set, else it is only noted."""
    if url is None:
        return [Audit(at, "left", "", "", uid, reason)]
    row = PendingLogout(new_id(), new_id(), LEGACY_DEVICE, uid, 0, reason, at, now_s, url)
    return [row, Audit(at, "left", row.session_id, LEGACY_DEVICE, uid, reason)]


def _log_out_reason(ended: SessionEnd | None) -> LogoutReason:
    match ended:
        case "heartbeat_timeout" | "app" | "http" | "operator" | "replaced":
            return ended
        case _:
            return "operator"
