"""A short run of `scripts/chaos`, and proof that its judge can find something."""

from pathlib import Path

import pytest

from tests.support.world import BROKERS
from tools.chaos.house import House
from tools.chaos.judge import Evidence, Usable, executions, verdicts
from tools.chaos.plan import FAULTS, PHASES, Cause, Fault, Phase, Plan, Plans
from tools.chaos.rounds import Life
from tools.chaos.standstill import stood_still_s

SHORT: tuple[tuple[Fault, Phase, Cause], ...] = (
    ("kill bridge", "decided", "timeout"),
    ("kill edge", "sent", "http"),
    ("kill broker", "done", "app"),
    ("half-open", "sent", "operator"),
    ("stop bridge", "decided", "replaced"),
    ("drop", "done", "http"),
    ("cut off", "sent", "timeout"),
    ("late login", "done", "http"),
)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("broker", list(BROKERS))
def test_no_log_out_is_lost_false_late_or_done_twice(broker: str, tmp_path: Path) -> None:
    with House(tmp_path, broker) as house:
        life = Life(house)
        life.settle_in()
        results = []
        for number, (fault, phase, cause) in enumerate(SHORT, start=1):
            plan = Plan(number, fault, phase, cause, lasts_s=0.5, at_random=False, variant=number)
            results.append(life.play(plan))
        life.close()
    assert [result.found for result in results] == [[] for _ in SHORT]
    landed = sum(result.landed is not None for result in results)
    assert landed >= len(SHORT) - 1, "the faults did not hit"


FINE = Evidence(
    "s1",
    journal=[None, "s1", None],
    ended=["s1"],
    usable=[Usable(1.0, 5.0)],
    done_acks={(1, 7)},
    due=4.0,
    usable_until_at_most=9.0,
    not_before=4.0,
    log_outs=[4.5],
    told=True,
)


def changed(**parts: object) -> Evidence:
    return Evidence(**{**FINE.__dict__, **parts})


def test_the_judge_finds_nothing_in_a_log_out_that_went_well() -> None:
    assert verdicts(FINE) == []


@pytest.mark.parametrize(
    ("evidence", "word"),
    [
        (changed(journal=[None, "s1"], usable=[Usable(1.0, 5.0)]), "lost"),
        (changed(told=False), "lost"),
        (changed(sent_after_told=True), "lost"),
        (changed(usable=[Usable(1.0, 9.1)]), "late"),
        (changed(usable=[Usable(1.0, 2.0), Usable(3.0, None)]), "late"),
        (changed(log_outs=[3.9, 4.5]), "false"),
        (changed(due=None, not_before=None), "false"),
        (changed(journal=[None, "s1", None, "s1", None]), "duplicate"),
        (changed(done_acks={(1, 7), (1, 9)}), "duplicate"),
    ],
)
def test_the_judge_finds_what_went_wrong(evidence: Evidence, word: str) -> None:
    assert [found.split(":")[0] for found in verdicts(evidence)] == [word]


def test_a_machine_that_stood_still_is_noticed_and_one_that_is_busy_is_not() -> None:
    assert stood_still_s(10.0, 10.1) == stood_still_s(10.0, 10.5) == 0.0
    assert stood_still_s(10.0, 13.1) == pytest.approx(3.0)


def test_a_restart_that_stores_the_same_session_again_is_no_execution() -> None:
    assert executions("s1", ["s1", "s1", None, None]) == 1


def test_the_plan_fills_all_cells_evenly_and_counts_only_what_landed() -> None:
    cells = len(FAULTS) * len(PHASES)
    plans = Plans(rounds=2 * cells + 5, seed=1)
    played = 0
    while (plan := plans.next()) is not None:
        played += 1
        landed: dict[int, Phase | None] = {0: None, 1: "done"}
        plans.done(plan, landed.get(plan.number % 5, plan.phase))
    assert played > plans.hits.total() >= 2 * cells + 5
    assert min(plans.hits[fault, phase] for fault in FAULTS for phase in PHASES) >= 2


def test_a_plan_whose_faults_never_land_comes_to_an_end() -> None:
    plans = Plans(rounds=3, seed=1)
    while (plan := plans.next()) is not None:
        plans.done(plan, None)
    assert plans.hits.total() == 0
