"""How a rollout goes on: which devices are asked next, when it stops, when the next stage begins. No I/O."""

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil

from bridge.storage.rollouts import Candidate, DeviceProgress, Rollout, RolloutDevice, RolloutState
from contract.messages import ModelReport

ASK_EVERY_S = 60.0
"""A device that is online and has not answered is asked again after that."""
MOST_ASKED = 15
"""A device that answered none of this number of requests has failed: it runs no model that it was told to."""
MOST_AT_ONCE = 20
"""Of requests in one step: each brings a download of a megabyte."""
WATCHED_H = 0.5
"""Rates of a shorter time say little."""
MORE_WAKES, MORE_NEAR = 3.0, 20.0
"""An hour, besides three times as many as before."""
TIMES = 3.0

CHANGES: Mapping[str, tuple[frozenset[RolloutState], RolloutState]] = {
    "pause": (frozenset({"running"}), "paused"),
    "resume": (frozenset({"paused"}), "running"),
    "stop": (frozenset({"running", "paused", "done"}), "stopped"),
}
"""What an operator does: in which states it can be done, and the state that follows."""
NO_ANSWER = "no answer"


@dataclass
class Step:
    """What has changed: rows to write, and the devices to ask."""

    rollout: Rollout
    devices: list[RolloutDevice] = field(default_factory=list)
    asked: list[RolloutDevice] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    """What is worth a line of the audit."""


def in_order(number: int, candidates: Iterable[str]) -> list[str]:
    """Devices in the order in which a rollout chooses them: another for each rollout, the same at each bridge."""
    return sorted(candidates, key=lambda one: hashlib.sha256(f"{number} {one}".encode()).digest())


def meant(rollout: Rollout, candidates: Iterable[Candidate]) -> list[str]:
    """The devices that a rollout is for."""
    return [one.device_id for one in candidates if not rollout.tag or rollout.tag in one.tags]


def step(
    rollout: Rollout,
    known: Mapping[str, RolloutDevice],
    candidates: Sequence[str],
    now: float,
    online: Callable[[str], bool],
    before: Callable[[str], str],
) -> Step:
    """What a rollout does now.

    Args:
        rollout: as it is.
        known: its devices.
        candidates: all that it is for.
        now: Unix time.
        online: whether a device is there.
        before: the model that a device goes back to, by its name.
    """
    done = Step(rollout)
    rows = dict(known)
    if rollout.state in {"running", "done"}:
        _give_up(rows, online, now)
    failed = failures(rows.values())
    if done.rollout.state in {"running", "paused"} and len(failed) >= rollout.most_failures:
        why = f"{len(failed)} of {len(rows)} devices failed: {failed[0].reason}"
        done.rollout = replace(done.rollout, state="stopped", reason=why)
        done.told.append(f"stopped by itself: {why}")
    if done.rollout.state == "stopped":
        _return(rows)
    elif done.rollout.state == "running":
        _choose(done, rows, candidates, online, before)
        _go_on(done, rows, now, online)
    _ask(done, rows, now, online)
    done.devices = [row for name, row in rows.items() if known.get(name) != row]
    return done


def changed(rollout: Rollout, what: str) -> Rollout | None:
    """The rollout after an operator's change, one of CHANGES; None if it cannot be done now."""
    states, then = CHANGES[what]
    if rollout.state not in states:
        return None
    return replace(rollout, state=then, reason="an operator stopped it" if then == "stopped" else rollout.reason)


def is_over(rollout: Rollout, rows: Iterable[RolloutDevice]) -> bool:
    """Whether nothing is left to be done: a device that is away and was asked may still come."""
    return rollout.state in {"done", "stopped"} and not any(row.state in {"asked", "returning"} for row in rows)


def failures(rows: Iterable[RolloutDevice]) -> list[RolloutDevice]:
    """The devices that failed, also those that go back for it."""
    return [row for row in rows if row.reason and row.state != "kept"]


def answered(row: RolloutDevice, report: ModelReport) -> RolloutDevice:
    """A device's row after its report; one whose new model is worse goes back at once."""
    watched = _watched(report)
    if row.state == "returning" and report.status == "returned":
        return replace(row, state="returned", watched=watched)
    if row.state in {"returning", "returned", "kept"} or report.status == "returned":
        return row
    if report.status != "running":
        return replace(row, state=report.status, reason=report.reason or report.status, watched=watched)
    worse = why_worse(report)
    if worse is not None:
        return replace(row, state="returning", reason=worse, watched=watched, asked=0, asked_at=None)
    failed = row.state == "failed" and row.reason != NO_ANSWER
    return row if failed else replace(row, state="running", reason="", watched=watched)


def runs_another(row: RolloutDevice, model: str, wanted: str) -> RolloutDevice:
    """A device's row after a hello that names the model which it runs."""
    if row.state != "running" or not model or model == wanted:
        return row
    return replace(row, state="failed", reason=f"runs {model} again")


def why_worse(report: ModelReport) -> str | None:
    """Why the new model is worse than the one before, by how often it wakes or nearly does; None if it is not."""
    if report.hours is None or report.hours < WATCHED_H:
        return None
    for what, now, then, more in (
        ("wakes", report.wakes_per_hour, report.wakes_before, MORE_WAKES),
        ("near-misses", report.near_per_hour, report.near_before, MORE_NEAR),
    ):
        if now is not None and now > TIMES * (then or 0.0) + more:
            return f"{now:.1f} {what} an hour, {then or 0.0:.1f} before"
    return None


def _watched(report: ModelReport) -> str:
    if report.wakes_per_hour is None or report.near_per_hour is None or report.hours is None:
        return ""
    wakes, near = report.wakes_per_hour, report.near_per_hour
    return f"{wakes:.1f} wakes and {near:.1f} near-misses an hour in {report.hours:.1f} h"


def _give_up(rows: dict[str, RolloutDevice], online: Callable[[str], bool], now: float) -> None:
    for row in list(rows.values()):
        late = row.asked_at is not None and now - row.asked_at >= ASK_EVERY_S
        if row.state == "asked" and row.asked >= MOST_ASKED and late and online(row.device_id):
            rows[row.device_id] = replace(row, state="failed", reason=NO_ANSWER)


def _return(rows: dict[str, RolloutDevice]) -> None:
    """Who has the model, or may have it, is to go back."""
    for row in list(rows.values()):
        if row.state in {"asked", "running", "failed"}:
            # Who was never asked has nothing to go back from.
            state: DeviceProgress = "returning" if row.asked else "returned"
            rows[row.device_id] = replace(row, state=state, asked=0, asked_at=None)


def _choose(
    done: Step,
    rows: dict[str, RolloutDevice],
    candidates: Sequence[str],
    online: Callable[[str], bool],
    before: Callable[[str], str],
) -> None:
    """As many devices as the stage has; those that are there come first, but in the last stage all are asked."""
    rollout = done.rollout
    wanted = ceil(len(candidates) * rollout.shares[rollout.stage] / 100.0 - 1e-9)
    if len(rows) >= max(wanted, 1 if candidates else 0):
        return
    free = in_order(rollout.number, [one for one in candidates if one not in rows])
    free.sort(key=lambda one: not online(one))
    for device_id in free[: max(wanted, 1) - len(rows)]:
        rows[device_id] = RolloutDevice(rollout.number, device_id, rollout.stage, before=before(device_id))
        done.rollout = replace(done.rollout, settled_at=None)


def _go_on(done: Step, rows: Mapping[str, RolloutDevice], now: float, online: Callable[[str], bool]) -> None:
    """Begin the next stage when this one has been good for long enough."""
    rollout = done.rollout
    waits = any(row.state == "asked" and online(row.device_id) for row in rows.values())
    good = any(row.state == "running" for row in rows.values())
    if waits or not good:
        done.rollout = replace(rollout, settled_at=None)
    elif rollout.settled_at is None:
        done.rollout = replace(rollout, settled_at=now)
        done.told.append(
            f"stage {rollout.stage + 1} of {len(rollout.shares)}: the devices that are there have answered"
        )
    elif now - rollout.settled_at >= rollout.pause_s:
        if rollout.stage + 1 < len(rollout.shares):
            share = rollout.shares[rollout.stage + 1]
            done.rollout = replace(rollout, stage=rollout.stage + 1, settled_at=None)
            done.told.append(f"stage {rollout.stage + 2} of {len(rollout.shares)} began: {share:g} %")
        else:
            done.rollout = replace(rollout, state="done")
            done.told.append("done")


def _ask(done: Step, rows: dict[str, RolloutDevice], now: float, online: Callable[[str], bool]) -> None:
    for row in list(rows.values()):
        waits = row.state == "returning" or (row.state == "asked" and done.rollout.state != "paused")
        if not waits or not online(row.device_id):
            continue
        if row.asked_at is not None and now - row.asked_at < ASK_EVERY_S:
            continue
        if len(done.asked) >= MOST_AT_ONCE:
            return
        rows[row.device_id] = asked = replace(row, asked=row.asked + 1, asked_at=now)
        done.asked.append(asked)


def counts(rows: Collection[RolloutDevice]) -> dict[str, int]:
    """How many devices are in each state, in the order in which they go through them."""
    states = ("asked", "running", "kept", "failed", "returning", "returned")
    found = {state: sum(row.state == state for row in rows) for state in states}
    return {state: count for state, count in found.items() if count}
