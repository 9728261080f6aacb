"""A rollout on plain rows: whom it asks, when it goes on, stops, and what a device's answer means."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from bridge.rollout import rules
from bridge.storage.rollouts import Candidate, Rollout, RolloutDevice
from contract.messages import ModelReport

FLEET = [f"d{number:03}" for number in range(200)]
NOW = 1_000_000.0
ROLLOUT = Rollout(7, "sha", "", "1,10,100", 3600.0, 3, "running", 0, None, "", "then")


class World:
    """A fleet whose devices answer at once, as they are told to."""

    def __init__(self, rollout: Rollout = ROLLOUT) -> None:
        self.rollout = rollout
        self.rows: dict[str, RolloutDevice] = {}
        self.now = NOW
        self.away: set[str] = set()
        self.asked: list[str] = []
        self.told: list[str] = []

    def step(self, answer: Callable[[str], dict[str, Any] | None] = lambda _: {"status": "running"}) -> None:
        done = rules.step(
            self.rollout, self.rows, FLEET, self.now, lambda name: name not in self.away, lambda _: "before"
        )
        self.rollout = done.rollout
        self.told += done.told
        self.rows |= {row.device_id: row for row in done.devices}
        for row in done.asked:
            self.asked.append(row.device_id)
            told = {"status": "returned"} if row.state == "returning" else answer(row.device_id)
            if told is not None:
                report = ModelReport.model_validate({"id": "7", **told})
                self.rows[row.device_id] = rules.answered(self.rows[row.device_id], report)

    def steps(self, count: int, answer: Any = lambda _: {"status": "running"}, every_s: float = 2.0) -> None:
        for _ in range(count):
            self.step(answer)
            self.now += every_s

    def counts(self) -> dict[str, int]:
        return rules.counts(self.rows.values())


def test_stages_grow_and_each_is_watched_before_the_next() -> None:
    it = World()
    it.steps(3)
    assert it.counts() == {"running": 2}
    it.now += 3590
    it.steps(1)
    assert len(it.rows) == 2, "the pause is not over"
    it.now += 3600
    it.steps(4)
    assert it.counts() == {"running": 20}
    it.now += 3600
    it.steps(15)
    assert it.counts() == {"running": 200}
    assert it.told[-1] == "stage 3 of 3: the devices that are there have answered"
    it.now += 3600
    it.steps(2)
    assert it.rollout.state == "done"
    assert it.told[-1] == "done"


def test_no_more_devices_than_the_stage_has_are_asked_and_few_at_once() -> None:
    it = World(replace(ROLLOUT, stages="50,100"))
    it.step(lambda _: None)
    assert len(it.rows) == 100
    assert len(it.asked) == rules.MOST_AT_ONCE
    it.steps(10, lambda _: None)
    assert sorted(it.asked) == sorted(it.rows), "each was asked once"


def test_another_rollout_begins_with_other_devices() -> None:
    assert rules.in_order(1, FLEET)[:5] != rules.in_order(2, FLEET)[:5]
    assert rules.in_order(1, FLEET) == rules.in_order(1, reversed(FLEET))


def test_devices_that_are_there_are_canaries() -> None:
    it = World()
    it.away = set(rules.in_order(7, FLEET)[:150])
    it.steps(2)
    assert it.counts() == {"running": 2}


def test_it_stops_at_so_many_failures_and_all_go_back() -> None:
    it = World(replace(ROLLOUT, stages="10,100"))
    bad = set(rules.in_order(7, FLEET)[:20][5:8])
    it.steps(2, lambda name: {"status": "failed", "reason": "it is deaf"} if name in bad else {"status": "running"})
    assert it.rollout.state == "stopped"
    assert it.rollout.reason == "3 of 20 devices failed: it is deaf"
    it.steps(3)
    assert it.counts() == {"returned": 20}
    assert {row.device_id for row in rules.failures(it.rows.values())} == bad
    it.steps(20)
    assert len(it.rows) == 20, "no other device is asked"


def test_fewer_failures_stop_nothing() -> None:
    it = World(replace(ROLLOUT, stages="10,100"))
    bad = set(rules.in_order(7, FLEET)[:2])
    it.steps(3, lambda name: {"status": "failed", "reason": "x"} if name in bad else {"status": "running"})
    assert it.rollout.state == "running"
    assert it.counts() == {"running": 18, "failed": 2}


def test_a_stage_in_which_no_device_succeeds_never_ends() -> None:
    it = World(replace(ROLLOUT, pause_s=0.0))
    it.steps(30, lambda _: {"status": "kept", "reason": "edge.model"}, every_s=3600)
    assert it.counts() == {"kept": 2}
    assert it.rollout.stage == 0


def test_a_device_that_does_not_answer_is_asked_again_each_minute_and_fails_in_the_end() -> None:
    it = World(replace(ROLLOUT, stages="1,100"))
    it.steps(40, lambda _: None)
    assert len(it.asked) == 2 * 2, "within 80 s"
    it.steps(20, lambda _: None, every_s=rules.ASK_EVERY_S)
    assert {row.reason for row in it.rows.values()} == {rules.NO_ANSWER}
    assert len(it.asked) == 2 * rules.MOST_ASKED
    late = ModelReport(id="7", status="running")
    assert rules.answered(next(iter(it.rows.values())), late).state == "running"


def test_a_device_that_is_away_holds_no_stage_up_and_does_not_fail() -> None:
    it = World(replace(ROLLOUT, stages="10,100"))
    it.step(lambda _: None)
    it.away = set(list(it.rows)[:5])
    it.steps(60, every_s=rules.ASK_EVERY_S)
    assert it.rollout.stage == 1 or it.told[-1].startswith("stage 1 of 2")
    assert all(it.rows[name].state == "asked" for name in it.away)
    assert rules.failures(it.rows.values()) == []


def test_while_it_is_paused_no_device_is_asked_and_failures_still_stop_it() -> None:
    it = World(replace(ROLLOUT, stages="10,100"))
    it.step(lambda _: None)
    it.rollout = rules.changed(it.rollout, "pause") or it.rollout
    asked = len(it.asked)
    it.steps(50, every_s=rules.ASK_EVERY_S)
    assert len(it.asked) == asked
    for name in list(it.rows)[:3]:
        it.rows[name] = rules.answered(it.rows[name], ModelReport(id="7", status="failed", reason="late"))
    it.step()
    assert it.rollout.state == "stopped"


def test_who_was_never_asked_has_nothing_to_go_back_from() -> None:
    it = World(replace(ROLLOUT, stages="100"))
    it.step()
    it.rollout = rules.changed(it.rollout, "stop") or it.rollout
    it.step()
    assert it.counts() == {"returned": 200}
    assert len(it.asked) == 2 * rules.MOST_AT_ONCE


@pytest.mark.parametrize(
    ("what", "state", "then"),
    [
        ("pause", "running", "paused"), ("pause", "paused", None), ("pause", "done", None),
        ("resume", "paused", "running"), ("resume", "running", None), ("resume", "stopped", None),
        ("stop", "running", "stopped"), ("stop", "paused", "stopped"), ("stop", "done", "stopped"),
        ("stop", "stopped", None),
    ],
)  # fmt: skip
def test_what_an_operator_can_change(what: str, state: Any, then: str | None) -> None:
    after = rules.changed(replace(ROLLOUT, state=state), what)
    assert (after.state if after is not None else None) == then


def report(**told: Any) -> ModelReport:
    return ModelReport.model_validate({"id": "7", "status": "running", **told})


@pytest.mark.parametrize(
    ("told", "worse"),
    [
        ({}, None),
        ({"hours": 0.4, "wakes_per_hour": 90.0}, None),
        ({"hours": 0.5, "wakes_per_hour": 3.0, "near_per_hour": 20.0}, None),
        ({"hours": 0.5, "wakes_per_hour": 3.1}, "3.1 wakes an hour, 0.0 before"),
        ({"hours": 2.0, "wakes_per_hour": 8.9, "wakes_before": 2.0}, None),
        ({"hours": 2.0, "wakes_per_hour": 9.1, "wakes_before": 2.0}, "9.1 wakes an hour, 2.0 before"),
        ({"hours": 2.0, "near_per_hour": 51.0, "near_before": 10.0}, "51.0 near-misses an hour, 10.0 before"),
    ],
)
def test_a_model_that_wakes_more_often_than_before_is_worse(told: dict[str, float], worse: str | None) -> None:
    assert rules.why_worse(report(**told)) == worse


def test_a_device_whose_model_is_worse_goes_back_at_once_and_counts_as_failed() -> None:
    it = World(replace(ROLLOUT, stages="10,100"))
    it.steps(2)
    name = next(iter(it.rows))
    it.rows[name] = rules.answered(it.rows[name], report(hours=1.0, wakes_per_hour=30.0))
    assert (it.rows[name].state, it.rows[name].reason) == ("returning", "30.0 wakes an hour, 0.0 before")
    it.steps(2)
    assert it.rows[name].state == "returned"
    assert len(rules.failures(it.rows.values())) == 1
    assert it.rollout.state == "running"


def test_a_device_that_runs_another_model_than_it_said_has_failed() -> None:
    row = RolloutDevice(7, "d", 0, "running")
    assert rules.runs_another(row, "new", "new") == row
    assert rules.runs_another(row, "", "new") == row
    assert rules.runs_another(row, "old", "new").reason == "runs old again"
    assert rules.runs_another(replace(row, state="asked"), "old", "new").state == "asked"


@pytest.mark.parametrize("state", ["returned", "kept"])
def test_late_answers_change_nothing(state: Any) -> None:
    row = RolloutDevice(7, "d", 0, state)
    for status in ("running", "failed", "kept", "returned"):
        assert rules.answered(row, report(status=status)) == row


def test_only_devices_with_the_tag_are_meant() -> None:
    fleet = [Candidate("a", frozenset({"x", "y"})), Candidate("b", frozenset({"xy"})), Candidate("c", frozenset())]
    assert rules.meant(ROLLOUT, fleet) == ["a", "b", "c"]
    assert rules.meant(replace(ROLLOUT, tag="x"), fleet) == ["a"]
