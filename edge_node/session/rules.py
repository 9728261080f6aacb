"""The session on this device: rules E1 to E5 of docs/sessions.md. No I/O; time and ids are given.

Every input returns a Decision. The caller writes `save` durably first, then shows the new state, then acknowledges,
then reports (E1). Times are monotonic seconds of a clock that includes a machine's sleep.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import Field

from contract.messages import (
    MAX_COUNT,
    MAX_REPORTED,
    Ack,
    AckStatus,
    Count,
    EndedSession,
    EndReason,
    Hello,
    Id,
    Login,
    Logout,
    Uid,
)

ENDED_KEPT = 8
HELLO_EVERY_S = 300.0
HELLO_AT_LEAST_S = 10.0
HELLO_FIRST_AGAIN_S = 2.0
HELLO_AFTER_REFUSAL_S = 0.5
BIRTH_SPREAD_S = 10.0


@dataclass(frozen=True, slots=True)
class Held:
    """The session on this device."""

    session_id: Id
    uid: Uid
    lease_s: Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class EdgeState:
    """The state that survives a restart; its types are limited to what a message can hold."""

    install_id: Id
    boot: Annotated[int, Field(ge=0, lt=MAX_COUNT)] = 0
    generation: Count = 0
    held: Held | None = None
    ended: Annotated[tuple[EndedSession, ...], Field(max_length=ENDED_KEPT)] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, in the order of the fields."""

    save: EdgeState | None = None
    began: str | None = None
    """The user who is logged in now."""
    ended: EndReason | None = None
    """Why a session ended."""
    ack: tuple[str, AckStatus] | None = None
    """Answer the command of this id with this status."""
    renumbered: bool = False
    """The boot has changed: the last will must have it, too."""


class EdgeSession:
    """The device's view of its session.

    After each Decision with `save` the caller calls `stored()`, or `suspend()` if it could not be stored.

    Args:
    state: as loaded; `boot` is already this boot's number.
    configured_uid: the claimed user whenever no user is logged in.
    jitter: a random number in [0, 1).
    """

    def __init__(
        self,
        state: EdgeState,
        configured_uid: str | None,
        now: float,
        *,
        new_id: Callable[[], str],
        jitter: Callable[[], float],
    ) -> None:
        self.state = state
        self._stored = state
        self._wish = configured_uid
        self._new_id = new_id
        self._jitter = jitter
        self._seq = 0
        self._nonce: str | None = None
        self._nonce_at = now
        # E4: held but suspended until a grant; it lapses after the last stored lease.
        self._granted = False
        self._lease_ends = now + state.held.lease_s if state.held else now
        self._unanswered = 0
        self._next_hello: float | None = None

    @property
    def active_uid(self) -> str | None:
        """The user whose wakes are published; None in standby. `tick` watches the lease."""
        return self.state.held.uid if self.state.held is not None and self._granted else None

    @property
    def mode(self) -> Literal["active", "standby"]:
        """The mode in the device's status."""
        return "standby" if self.active_uid is None else "active"

    def next_seq(self) -> int:
        """The sequence number of this boot's next report."""
        self._seq += 1
        return self._seq

    # When to send hello (E5):

    def connected(self, now: float) -> None:
        """The broker is reached: send hello at once."""
        self._unanswered = 0
        self._next_hello = now

    def disconnected(self) -> None:
        """A hello would reach no bridge."""
        self._next_hello = None

    def bridge_born(self, now: float) -> None:
        """A bridge came up: send hello, at a different moment than other devices."""
        self._hello_by(now + self._jitter() * BIRTH_SPREAD_S)

    def report_soon(self, now: float) -> None:
        """The device has something to tell: say hello at once."""
        self._hello_by(now)

    def hello_due(self, now: float) -> bool:
        """Whether to send hello now."""
        return self._next_hello is not None and self._next_hello <= now

    def hello(self, now: float, *, version: str, model: str) -> Hello:
        """A report with a new nonce; only an answer to this one counts."""
        self._nonce, self._nonce_at = self._new_id(), now
        backoff = min(HELLO_FIRST_AGAIN_S * 2 ** min(self._unanswered, 16), HELLO_EVERY_S)
        self._unanswered += 1
        self._next_hello = now + backoff * (0.5 + self._jitter() / 2)
        return Hello(**self._report(), nonce=self._nonce, version=version, model=model)

    def ack(self, command_id: str, status: AckStatus) -> Ack:
        """A report that answers a command."""
        return Ack(**self._report(), id=command_id, status=status)

    # Events:

    def login(self, login: Login, now: float) -> Decision:
        """A grant or a renewal (E2), a poke, or the counters that the bridge has received (E6)."""
        if login.boot is not None:
            return self._go_beyond(login.re, login.boot, login.seq or 0)
        if login.re is None:
            self._hello_by(now)
            return Decision()
        held = self.state.held
        lease_s = login.lease_s or 0.0
        lease_ends = self._nonce_at + lease_s
        over = {entry.session_id for entry in self.state.ended}
        if login.re != self._nonce or login.session_id is None or login.session_id in over or lease_ends <= now:
            if not self._is_late(login):
                self._hello_by(now + HELLO_AFTER_REFUSAL_S)
            return Decision()
        self._nonce = None
        self._unanswered = 0
        begins = held is None or held.session_id != login.session_id
        ended = self.state.ended
        if begins and held is not None:
            ended = with_ended(ended, held.session_id, "replaced")
        was_active = self.active_uid is not None and not begins
        self.state = replace(
            self.state,
            generation=max(self.state.generation, login.generation),
            held=Held(login.session_id, login.uid, lease_s),
            ended=ended,
        )
        self._granted = True
        self._lease_ends = lease_ends
        self._next_hello = now + max(min(HELLO_EVERY_S, (lease_ends - now) / 3), HELLO_AT_LEAST_S)
        return Decision(
            save=self.state,
            began=None if was_active else login.uid,
            ended="replaced" if begins and held is not None else None,
        )

    def _go_beyond(self, install_id: str | None, boot: int, seq: int) -> Decision:
        """E6: reports of this installation that are not from this run are from a later state of it.

        Otherwise one of our own messages was late, which means nothing.
        """
        if install_id != self.state.install_id or (boot, seq) <= (self.state.boot, self._seq):
            return Decision()
        if boot + 1 < MAX_COUNT:
            self.state = replace(self.state, boot=boot + 1)
        else:
            self.state = replace(self.state, install_id=self._new_id(), boot=1)  # no larger number is possible
        return Decision(save=self.state, renumbered=True)

    def _is_late(self, login: Login) -> bool:
        """An answer to an older hello without news: a newer hello is on its way, or was answered alike.

        Another hello for it would send a slow bridge, or two bridges that answer both, ever more of them.
        """
        if login.re == self._nonce:
            return False
        held = self.state.held
        answered_alike = self._granted and held is not None and held.session_id == login.session_id
        return self._nonce is not None or answered_alike

    def logout(self, logout: Logout, now: float) -> Decision:
        """A log-out of the held session is done, of any other a duplicate; both are remembered (E3)."""
        self.state = replace(self.state, generation=max(self.state.generation, logout.generation))
        held = self.state.held
        if logout.session_id is None:
            # The documented form has only the user.
            if held is None or held.uid != logout.uid:
                return Decision(ack=(logout.id, "duplicate" if held is None else "refused"))
            # A person requested it, not the ledger: a remaining claim would undo it in the same second.
            self._withdraw(logout.uid)
            return self._end("done", now, ack=(logout.id, "done"))
        if held is not None and held.session_id == logout.session_id:
            return self._end("done", now, ack=(logout.id, "done"))
        if any(entry.session_id == logout.session_id for entry in self.state.ended):
            return Decision(ack=(logout.id, "duplicate"))
        self.state = replace(self.state, ended=with_ended(self.state.ended, logout.session_id, "done"))
        return Decision(save=self.state, ack=(logout.id, "duplicate"))

    def tick(self, now: float) -> Decision:
        """An expired lease ends the session (E3)."""
        if self.state.held is not None and self._lease_ends <= now:
            return self._end("lapsed", now)
        return Decision()

    def local_logout(self, uid: str, now: float) -> Decision | None:
        """A request on the device; None if another user is logged in: nothing changed."""
        held = self.state.held
        if held is not None and held.uid != uid:
            return None
        self._withdraw(uid)
        return Decision() if held is None else self._end("local", now)

    def local_login(self, uid: str, now: float) -> None:
        """A claim for the next hello."""
        self._wish = uid
        self._hello_by(now)

    def stored(self) -> None:
        """The decision is durable."""
        self._stored = self.state

    def suspend(self) -> None:
        """The decision could not be stored: undo it and never report it; standby until a grant."""
        self.state = self._stored
        self._granted = False

    def _withdraw(self, uid: str) -> None:
        if self._wish == uid:
            self._wish = None

    def _end(self, reason: EndReason, now: float, ack: tuple[str, AckStatus] | None = None) -> Decision:
        held = self.state.held
        assert held is not None  # noqa: S101 - callers checked
        self.state = replace(self.state, held=None, ended=with_ended(self.state.ended, held.session_id, reason))
        self._granted = False
        self._hello_by(now)
        return Decision(save=self.state, ended=reason, ack=ack)

    def _hello_by(self, at: float) -> None:
        if self._next_hello is not None:
            self._next_hello = min(self._next_hello, at)

    def _report(self) -> dict[str, object]:
        held = self.state.held
        return {
            "install_id": self.state.install_id,
            "boot": self.state.boot,
            "seq": self.next_seq(),
            "session_id": held.session_id if held else None,
            "uid": held.uid if held else None,
            # A command may have raised it further than a report can hold.
            "generation": min(self.state.generation, MAX_REPORTED),
            "claim_uid": self._wish,
            "ended": self.state.ended,
        }


def with_ended(ended: tuple[EndedSession, ...], session_id: str, reason: EndReason) -> tuple[EndedSession, ...]:
    """The list with one more; only the newest are kept."""
    return (*ended, EndedSession(session_id=session_id, reason=reason))[-ENDED_KEPT:]
