"""The rules of sessions: who is logged in where, and what a device must still be told. No I/O; time and ids are given.

A rule works on a `Desk`: one device's rows, read in one transaction. It leaves the rows to write and the commands to
publish after the commit. Rule numbers (B1, B3 ...) are those of docs/sessions.md.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from contract.messages import EndReason, Login, Logout, LogoutReason, Report

SessionEnd = LogoutReason | EndReason
Answer = Login | Logout


@dataclass(frozen=True, slots=True)
class Device:
    """A device as it last reported. (boot, seq) is compared only within one install_id."""

    device_id: str
    install_id: str | None = None
    boot: int = -1
    seq: int = -1
    generation: int = 0
    claim_uid: str | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """One user logged in on one device; once ended it is never un-ended."""

    session_id: str
    device_id: str
    uid: str
    generation: int
    ended: SessionEnd | None = None


@dataclass(frozen=True, slots=True)
class PendingLogout:
    """An outbox row: a log-out that its device has not yet confirmed."""

    command_id: str
    session_id: str
    device_id: str
    uid: str
    generation: int
    reason: LogoutReason
    issued_at: str

    def command(self) -> Logout:
        """The message, the same at every repetition."""
        return Logout(
            id=self.command_id,
            uid=self.uid,
            session_id=self.session_id,
            generation=self.generation,
            reason=self.reason,
            issued_at=self.issued_at,
        )


@dataclass(frozen=True, slots=True)
class Settled:
    """The outbox row of this session is done with."""

    device_id: str
    session_id: str


@dataclass(frozen=True, slots=True)
class Audit:
    """Who, why, when: one line per session change."""

    at: str
    event: Literal["opened", "ended", "settled", "adopted"]
    session_id: str
    device_id: str
    uid: str
    reason: str


Change = Device | Session | PendingLogout | Settled | Audit


class People(Protocol):
    """What the rules need to know of users."""

    def alive(self, uid: str) -> bool:
        """Connected, beating or logged in within the time-out, and not logged out since."""
        ...

    def lease_s(self, uid: str) -> float:
        """Seconds for which a device may be used by this user without hearing from us."""
        ...

    def first_lease_s(self) -> float:
        """The same for a user who begins to live now."""
        ...

    def may_adopt(self, uid: str) -> bool:
        """May a session that we do not know be taken over for this user?"""
        ...


@dataclass
class Desk:
    """One device's rows in one transaction, and what the rules decide on them."""

    device: Device
    active: Session | None
    pending: dict[str, PendingLogout]
    known: Mapping[str, Session]
    """Sessions named in the report, by id, whatever their state."""
    issued_at: str
    new_id: Callable[[], str]
    changes: list[Change] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    adopted: Session | None = None

    def open(self, uid: str, reason: str) -> Session:
        """Log a user in; whoever is in is replaced (B1). The same user stays in the same session."""
        if self.active is not None:
            if self.active.uid == uid:
                return self.active
            self.end("replaced")
        self._raise_generation()
        session = Session(self.new_id(), self.device.device_id, uid, self.device.generation)
        self._write(session, "opened", reason)
        self.active = session
        return session

    def end(self, reason: LogoutReason) -> PendingLogout | None:
        """End the active session and put its log-out into the outbox (B1); None when nobody is in."""
        if self.active is None:
            return None
        self._raise_generation()
        ended = replace(self.active, ended=reason)
        row = PendingLogout(
            self.new_id(),
            ended.session_id,
            ended.device_id,
            ended.uid,
            self.device.generation,
            reason,
            self.issued_at,
        )
        self._write(ended, "ended", reason)
        self.changes.append(row)
        self.pending[row.session_id] = row
        self.active = None
        self.answers.append(row.command())
        return row

    def answer(self, report: Report, nonce: str | None, people: People) -> None:
        """Bring ledger and device together (B3); `nonce` is that of a hello, None for an ack."""
        if self._is_older(report):
            return
        self.answers.clear()
        self.device = replace(
            self.device,
            install_id=report.install_id,
            boot=report.boot,
            seq=report.seq,
            generation=max(self.device.generation, report.generation),
            claim_uid=report.claim_uid,
        )
        self.changes.append(self.device)
        self._take_ended(report, people)
        self._take_held(report, people)
        claim = report.claim_uid
        if nonce is not None and self.active is None and claim is not None and people.alive(claim):
            self.open(claim, "claim")
        for row in self.pending.values():
            self._say(row.command())
        if nonce is not None and self.active is not None:
            self._grant(self.active, nonce, people)

    def _is_older(self, report: Report) -> bool:
        same_install = self.device.install_id == report.install_id
        return same_install and (report.boot, report.seq) < (self.device.boot, self.device.seq)

    def _take_ended(self, report: Report, people: People) -> None:
        """B2 and B3: what the device says it ended is ended, and settles its row; nothing else does."""
        for entry in report.ended:
            if self.active is not None and entry.session_id == self.active.session_id:
                uid = self.active.uid
                self._write(replace(self.active, ended=entry.reason), "ended", f"edge: {entry.reason}")
                self.active = None
                if entry.reason == "lapsed" and people.alive(uid):
                    self.open(uid, "came back after a lapse")
            row = self.pending.pop(entry.session_id, None)
            if row is not None:
                self.changes.append(Settled(row.device_id, row.session_id))
                self._audit("settled", row.session_id, row.uid, entry.reason)

    def _take_held(self, report: Report, people: People) -> None:
        """B3: the device holds a session that is not the active one: adopt it or end it there."""
        if report.session_id is None or report.uid is None:
            return
        if self.active is not None and report.session_id == self.active.session_id:
            return
        known = self.known.get(report.session_id)
        if known is None and self.active is None and people.may_adopt(report.uid):
            self._raise_generation()
            adopted = Session(report.session_id, self.device.device_id, report.uid, self.device.generation)
            self._write(adopted, "adopted", "reported by its device")
            self.active = self.adopted = adopted
        elif (known is not None or self.active is None) and report.session_id not in self.pending:
            row = PendingLogout(
                self.new_id(),
                report.session_id,
                self.device.device_id,
                report.uid,
                self.device.generation,
                "operator" if known is None else _log_out_reason(known.ended),
                self.issued_at,
            )
            self.changes.append(row)
            self.pending[row.session_id] = row

    def _grant(self, session: Session, nonce: str, people: People) -> None:
        begins = session is self.adopted and not people.alive(session.uid)
        lease_s = people.first_lease_s() if begins else people.lease_s(session.uid)
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

    def _raise_generation(self) -> None:
        self.device = replace(self.device, generation=self.device.generation + 1)
        self.changes.append(self.device)

    def _say(self, answer: Answer) -> None:
        if answer not in self.answers:
            self.answers.append(answer)

    def _write(self, session: Session, event: Literal["opened", "ended", "adopted"], reason: str) -> None:
        self.changes.append(session)
        self._audit(event, session.session_id, session.uid, reason)

    def _audit(
        self, event: Literal["opened", "ended", "settled", "adopted"], session_id: str, uid: str, reason: str
    ) -> None:
        self.changes.append(Audit(self.issued_at, event, session_id, self.device.device_id, uid, reason))


def _log_out_reason(ended: SessionEnd | None) -> LogoutReason:
    match ended:
        case "heartbeat_timeout" | "app" | "http" | "operator" | "replaced":
            return ended
        case _:
            return "operator"
