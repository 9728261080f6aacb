"""One round: a user logs in on the attacked device, the end comes due, a fault hits, all is healed and judged."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from uuid import uuid4

from tools.chaos.house import BYSTANDER, TARGET, Beater, House, Json, Premises, eventually
from tools.chaos.judge import Evidence, Usable, verdicts
from tools.chaos.plan import Phase, Plan
from tools.chaos.standstill import Standstill
from tools.chaos.strike import Strike

CONVERGES_WITHIN_S = 30.0
HITS_WITHIN_S = 12.0
JUMP_COSTS_S = 2.0
"""A leap of the clock may count as that much service time (T1)."""
CLOCKS_S = 0.05
QUIET_AFTER_S = 3.0


@dataclass
class Result:
    """What became of a round."""

    plan: Plan
    landed: Phase | None
    found: list[str]
    took_s: float
    note: str = ""


@dataclass
class Told:
    """A session whose log-out was confirmed, to be looked at once more at the end."""

    result: Result
    session_id: str
    healed_at: float


@dataclass
class Life:
    """The rounds of one house."""

    house: Premises
    bystander: str = field(default_factory=lambda: f"bystander-{uuid4().hex[:8]}")
    told: list[Told] = field(default_factory=list)
    beater: Beater | None = None
    lapses: int = 0
    starved: int = 0

    def settle_in(self) -> None:
        """The bystander is logged in and beats from now on."""
        _, self.beater = self._log_in(self.bystander, BYSTANDER)

    def close(self) -> None:
        """The last beat; and was any log-out sent long after it was confirmed?"""
        time.sleep(QUIET_AFTER_S + 2.5)
        if self.beater is not None:
            self.beater.stop()
        for told in self.told:
            reports = [at for at, _ in self._reports(told.session_id)]
            quiet_from = max([told.healed_at, *reports]) + QUIET_AFTER_S
            if any(at > quiet_from for at, _ in self._log_outs(told.session_id)):
                told.result.found.append("lost: the log-out was confirmed, and is still sent")

    def play(self, plan: Plan) -> Result:
        """One round from log-in to judgement."""
        with Standstill() as stood_still:
            return self._played(plan, stood_still)

    def _played(self, plan: Plan, stood_still: Standstill) -> Result:
        began, began_mono, down_s = time.time(), time.monotonic(), self.house.down_s
        uid = f"u{plan.number}-{uuid4().hex[:6]}"
        session_id, beater = self._log_in(uid, TARGET)
        strike = self._strike(plan)
        strike.arm()
        end = _End(self.house, uid, beater, plan)
        end.start()
        if plan.at_random:
            time.sleep(max(0.0, end.due - time.time() + Random(plan.variant).uniform(-0.1, 0.6)))  # noqa: S311
            strike.strike_now()
        hit = strike.wait(HITS_WITHIN_S)
        strike.heal()
        end.join()
        converged = eventually("it converges", lambda: self._is_over(session_id), CONVERGES_WITHIN_S)
        healed_at = time.time()
        landed = self._landed(plan, session_id, strike.hit_at, end.due) if hit else None
        times = self.house.times
        late = end.last_try + times.timeout_s + times.grace_s + times.coalesce_s + times.slack_s
        evidence = self._evidence(session_id, since=began)
        evidence.due = end.due
        evidence.usable_until_at_most = late + (self.house.down_s - down_s) + strike.extra_s + stood_still.seconds
        jump = JUMP_COSTS_S if plan.fault == "clock jump" else 0.0
        evidence.not_before = end.not_before - CLOCKS_S - jump
        result = Result(plan, landed, verdicts(evidence), time.monotonic() - began_mono)
        if not converged and not result.found:
            result.found.append("lost: nothing was wrong, but it took too long")
        self.told.append(Told(result, session_id, healed_at))
        result.found += self._look_after_bystander(began, jump)
        end.clean_up(self)
        result.took_s = time.monotonic() - began_mono
        return result

    def _strike(self, plan: Plan) -> Strike:
        assert isinstance(self.house, House)
        return Strike(self.house, plan)

    def _log_in(self, uid: str, device: str) -> tuple[str, Beater]:
        """The session, once the device runs it, and who beats for it.

        Beats from the answer on: a device that starts late must not find its user timed out.
        """
        sent = 0.0
        answer: Json | None = None

        def asked() -> bool:
            nonlocal answer, sent
            sent = time.time()
            answer = self.house.post("/api/auth/login", {"uid": uid, "device_id": device})
            return answer is not None

        assert eventually(f"{uid} may log in on {device}", asked, CONVERGES_WITHIN_S), self.house.log()
        assert answer is not None
        session_id: str = answer["session"]["session_id"]
        beater = Beater(self.house, uid, sent)
        beater.start()

        def granted() -> bool:
            return any(
                event["event"] == "logged_in" and event["session_id"] == session_id
                for event in self.house.events(device)
            )

        assert eventually(f"{device} takes {uid}", granted, CONVERGES_WITHIN_S), (
            self.house.events(device)[-5:],
            self.house.log(),
        )
        return session_id, beater

    def _is_over(self, session_id: str) -> bool:
        # What the edge tells on its output comes a moment after what it has stored.
        ended = all(usable.until is not None for usable in self._usable(session_id))
        return self.house.held(TARGET) != session_id and bool(self._reports(session_id)) and ended

    def _reports(self, session_id: str) -> list[tuple[float, Json]]:
        """Reports on their way to the bridge that list the session as ended."""
        return [
            (passed.at, passed.message)
            for passed in self.house.passed(self.house.at_bridge)
            if passed.direction == "down"
            and passed.kind in {"hello", "ack"}
            and any(entry["session_id"] == session_id for entry in passed.message.get("ended", ()))
        ]

    def _log_outs(self, session_id: str) -> list[tuple[float, Json]]:
        return [
            (passed.at, passed.message)
            for passed in self.house.passed(self.house.at_bridge)
            if passed.direction == "up" and passed.kind == "logout" and passed.message.get("session_id") == session_id
        ]

    def _evidence(self, session_id: str, since: float) -> Evidence:
        house = self.house
        log_outs = self._log_outs(session_id)
        commands = {message["id"] for _, message in log_outs}
        done = {
            (passed.message["boot"], passed.message["seq"])
            for passed in house.passed(house.at_edge, since)
            if passed.direction == "up"
            and passed.kind == "ack"
            and passed.message["id"] in commands
            and passed.message["status"] == "done"
        }
        return Evidence(
            session_id=session_id,
            journal=[entry["held"] for entry in house.journal(TARGET)],
            ended=[entry["session_id"] for entry in house.state(TARGET)["ended"]],
            usable=list(self._usable(session_id)),
            done_acks=done,
            log_outs=[at for at, _ in log_outs],
            told=bool(self._reports(session_id)),
        )

    def _usable(self, session_id: str) -> Iterator[Usable]:
        happened = [
            (event["at"], event["event"])
            for event in self.house.events(TARGET)
            if event["event"] in {"logged_in", "logged_out"} and event["session_id"] == session_id
        ]
        happened += [(at, "died") for at in self.house.deaths[TARGET]]
        since: float | None = None
        for at, event in sorted(happened):
            if event == "logged_in":
                since = at
            elif since is not None:
                yield Usable(since, at)
                since = None
        if since is not None:
            yield Usable(since, None)

    def _landed(self, plan: Plan, session_id: str, hit_at: float | None, due: float) -> Phase | None:
        """Where the fault really hit; None when it was before the end came due or after all was over."""
        if hit_at is None or hit_at < due - CLOCKS_S:
            return None
        if not plan.at_random:
            return plan.phase
        sent = min((at for at, _ in self._log_outs(session_id)), default=float("inf"))
        done = min((usable.until or float("inf") for usable in self._usable(session_id)), default=float("inf"))
        told = min((at for at, _ in self._reports(session_id)), default=float("inf"))
        if hit_at < sent:
            return "decided"
        if hit_at < done:
            return "sent"
        return "done" if hit_at < told else None

    def _look_after_bystander(self, began: float, jump: float) -> list[str]:
        """The bystander's session was not ended. Cut off for longer than a lease it lapses and comes back by itself."""
        house, beater = self.house, self.beater
        assert beater is not None
        found: list[str] = []
        reasons = [
            event["reason"]
            for event in house.events(BYSTANDER)
            if event["event"] == "logged_out" and event["at"] >= began
        ]
        self.lapses += reasons.count("lapsed")
        signs = list(beater.signs)
        for passed in house.passed(house.at_bridge, began):
            if passed.direction != "up" or passed.kind != "logout" or passed.device != BYSTANDER:
                continue
            last = max((sign for sign in signs if sign < passed.at), default=0.0)
            if (
                passed.message["reason"] != "heartbeat_timeout"
                or passed.at < last + house.times.timeout_s - CLOCKS_S - jump
            ):
                found.append(f"false: the bystander was logged out ({passed.message['reason']})")
            else:
                self.starved += 1
        if eventually("the bystander is back", lambda: self._is_in(BYSTANDER), CONVERGES_WITHIN_S / 2):
            return found
        if beater.last_sign > time.time() - house.times.timeout_s:
            found.append("lost: the bystander beats and is not logged in again")
        self.starved += 1
        beater.stop()
        _, self.beater = self._log_in(self.bystander, BYSTANDER)
        return found

    def _is_in(self, device: str) -> bool:
        states = [event["event"] for event in self.house.events(device) if event["event"].startswith("logged_")]
        return bool(states) and states[-1] == "logged_in"


class _End(threading.Thread):
    """What ends the session; asked again, as a person would, until it is answered.

    Attributes:
        due: wall-clock time at which the end is due.
        not_before: earliest time at which the log-out may be on the wire.
    """

    def __init__(self, house: Premises, uid: str, beater: Beater, plan: Plan) -> None:
        super().__init__(name=f"end of {uid}", daemon=True)
        self._house = house
        self._uid = uid
        self._beater = beater
        self._cause = plan.cause
        self._next_user = f"next-{uuid4().hex[:6]}"
        self.due = float("inf")
        self.not_before = float("inf")

    @property
    def last_try(self) -> float:
        return self._beater.last_try

    def start(self) -> None:
        if self._cause == "timeout":
            self._beater.stop()
            self.not_before = self._beater.last_sign + self._house.times.timeout_s
            self.due = self.not_before
        else:
            self.due = self.not_before = time.time()
        super().start()

    def run(self) -> None:
        if self._cause != "timeout":
            eventually("the log-out is answered", self._ask, CONVERGES_WITHIN_S)
            self._beater.stop()

    def _ask(self) -> bool:
        match self._cause:
            case "http":
                return self._house.post("/api/auth/logout", {"uid": self._uid}) is not None
            case "operator":
                return self._house.post("/api/sessions/logout", {"uid": self._uid}) is not None
            case "app":
                return self._house.log_out_by_app(self._uid)
            case _:
                body = {"uid": self._next_user, "device_id": TARGET}
                return self._house.post("/api/auth/login", body) is not None

    def clean_up(self, life: Life) -> None:
        """The device is free again."""
        for uid in (self._uid, self._next_user):
            eventually(
                f"{uid} is out",
                lambda uid=uid: life.house.post("/api/auth/logout", {"uid": uid}) is not None,  # type: ignore[misc]
                CONVERGES_WITHIN_S,
            )
        assert eventually("the device is free", lambda: life.house.held(TARGET) is None, CONVERGES_WITHIN_S), (
            life.house.state(TARGET),
            life.house.log(),
        )
