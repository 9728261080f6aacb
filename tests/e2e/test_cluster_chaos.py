"""Proof that the judge of `scripts/chaos --cluster` can find something, and short runs of it."""

import re
import subprocess
import sys
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest

from contract.app_socket import CloseCode
from tests.support.programs import needs
from tools.chaos.cluster import judge
from tools.chaos.cluster.absent import ENOUGH, Absent
from tools.chaos.cluster.guards import GUARDS
from tools.chaos.cluster.house import ClusterHouse, Hurt
from tools.chaos.cluster.judge import Asked, Called, Canaries, Canary, LoggedOut, Rung, Spell

ROOT = Path(__file__).parents[2]
A, B = "a", "b"
WELL = Canaries(Canary(bridge, at / 4, at / 4 + 0.01) for bridge in (A, B) for at in range(400, 520))
"""Both bridges ring their canaries from 100.0 to 130.0."""
DEAF = Canaries([*(Canary(B, at / 4, None) for at in range(400, 520))])
OPEN = Spell("alice", B, 90.0)


def called(*said: str, rung: tuple[float, ...] = ()) -> Called:
    return Called(
        "w1", "alice", 110.0,
        outcomes=[(110.5, status) for status in said], rung=[Rung("w1", at, OPEN) for at in rung],
    )  # fmt: skip


def of_wake(one: Called, canaries: Canaries = WELL, spell: Spell = OPEN) -> list[str]:
    return [found.split(":")[0] for found in judge.of_wake(one, [spell], canaries, [A, B])]


@pytest.mark.parametrize(
    ("one", "found"),
    [
        (called("sent", "acked"), []),
        (called("user_not_connected"), ["untrue"]),
        (called("user_not_connected", "sent"), ["hasty"]),
        (called(), ["untrue", "silent"]),
        (called("sent", rung=(110.1, 121.5)), ["old"]),
    ],
)
def test_the_judge_compares_what_a_device_heard_with_the_sockets_that_were_open(one: Called, found: list[str]) -> None:
    assert of_wake(one) == found


def test_a_finding_says_which_faults_were_near() -> None:
    hurts = [Hurt("kill node", "all", 108.0, 109.0), Hurt("cut apps", B, 150.0, 151.0)]
    assert judge.around(110.0, hurts) == "it came at 110.0, around kill node of all from -2.0 to -1.0 s"


def test_a_bridge_that_heard_nothing_is_held_to_nothing() -> None:
    assert of_wake(called("user_not_connected"), DEAF) == []
    assert of_wake(called("user_not_connected"), spell=Spell("alice", B, 90.0, 110.2)) == []


def test_the_judge_finds_a_socket_that_rang_twice_and_a_caller_who_heard_something_untrue() -> None:
    assert judge.twice(called("sent", rung=(110.1, 112.1)))[0].startswith("twice")
    assert judge.twice(called("sent", rung=(110.1,))) == []
    assert judge.of_trigger(Asked("alice", A, 110.0), [OPEN], WELL)[0].startswith("untrue")
    assert judge.of_trigger(Asked("alice", A, 110.0, rang=True), [OPEN], WELL) == []


@pytest.mark.parametrize(
    ("closed_after", "hurts", "found"),
    [(0.5, [], []), (5.0, [], ["open"]), (5.0, [Hurt("stop bridge", B, 108.0, 112.0)], []), (40.0, [], ["open"])],
)
def test_the_judge_finds_a_socket_that_outlives_its_log_out(
    closed_after: float, hurts: list[Hurt], found: list[str]
) -> None:
    out = LoggedOut("alice", 110.0, [Spell("alice", B, 90.0, 110.0 + closed_after, CloseCode.LOGGED_OUT)])
    assert [text.split(":")[0] for text in judge.of_log_out(out, hurts, WELL, 150.0)] == found


def test_the_judge_finds_a_socket_that_a_log_out_before_it_has_closed() -> None:
    out = LoggedOut("alice", 110.0, [], after=Spell("alice", B, 110.1, 110.4, CloseCode.LOGGED_OUT))
    assert judge.of_log_out(out, [], WELL, 150.0)[0].startswith("closed")


@pytest.mark.parametrize(
    ("code", "fault", "found"),
    [
        (CloseCode.DRAIN, "drain bridge", []),
        (CloseCode.DRAIN, "kill database", ["closed"]),
        (1006, None, ["closed"]),
        (CloseCode.LOGGED_OUT, "kill bridge", ["false"]),
    ],
)
def test_the_judge_finds_a_socket_that_nothing_should_have_closed(
    code: int, fault: str | None, found: list[str]
) -> None:
    hurts = [Hurt(fault, B, 108.0, 111.0)] if fault else []
    spell = Spell("alice", B, 90.0, 110.0, code)
    assert [text.split(":")[0] for text in judge.of_spell(spell, hurts)] == found


@pytest.mark.parametrize(
    ("ended", "found"), [((110.2, None), []), ((None, None), ["both"]), ((110.2, 110.3), ["both"])]
)
def test_the_judge_wants_one_socket_of_a_client(ended: tuple[float | None, ...], found: list[str]) -> None:
    spells = [
        Spell("alice", bridge, 109.0, at, None if at is None else CloseCode.REPLACED)
        for bridge, at in zip((A, B), ended, strict=True)
    ]
    assert [text.split(":")[0] for text in judge.of_move(spells, WELL, 110.0)] == found


def test_a_run_whose_canaries_are_silent_is_no_proof() -> None:
    assert judge.of_canaries([Canary(B, 100.0, None)] * judge.MANY)
    assert not judge.of_canaries([*[Canary(B, 100.0, None)] * judge.MANY, Canary(B, 100.0, 100.1)])


def test_each_guard_can_be_taken_out_of_what_the_bridge_is_made_of() -> None:
    """What a guard replaces is still there; whether the judge notices is seen by `--without`, by hand."""
    assert {"patience", "seek", "news", "joined", "turns", "deadline", "claims"} <= GUARDS.keys()


def chaos(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "always::ResourceWarning", "-m", "tools.chaos", "--cluster", *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


@needs("postgres", "nats-server", "setpriv")
@pytest.mark.timeout(900)
def test_a_short_run_finds_nothing_and_leaves_nothing_open() -> None:
    run = chaos("--rounds", "3", "--seed", "30")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "rounds=3 lost=0" in run.stdout, run.stdout
    assert "ResourceWarning" not in run.stderr, run.stderr


@needs("postgres", "nats-server", "setpriv")
@pytest.mark.timeout(900)
def test_a_run_of_bridges_without_a_guard_ends_with_1() -> None:
    """Heartbeats that count in memory only: each round whose user says nothing finds it, and the bystander of all."""
    run = chaos("--rounds", "2", "--seed", "80", "--without", "raising")  # both users say nothing
    assert run.returncode == 1, run.stdout + run.stderr
    assert re.search(r"\bfalse=[1-9]", run.stdout), run.stdout


def absent(*coming: list[str], hurts: tuple[Hurt, ...] = ()) -> Absent:
    """Who came at bridge A a while after the wake, each time told of these as missed."""
    house = SimpleNamespace(names=(A, B), hurts=hurts)
    one = Absent(cast("ClusterHouse", house), cast("Any", None), "alice", Random(0))  # noqa: S311 - no secret
    one.told = [(110.0 + judge.TTL_S + 5 * number, A, ids) for number, ids in enumerate(coming, start=1)]
    return one


@pytest.mark.parametrize(
    ("coming", "hurt", "found"),
    [
        ((["w1"], []), None, []),
        ((["w1", "w1"],), None, ["missed twice"]),
        ((["w1"], ["w1"]), None, ["missed twice"]),
        ((["w1"], ["w1"]), "kill bridge", []),
    ],
)
def test_the_judge_wants_a_missed_wake_told_once(
    coming: tuple[list[str], ...], hurt: str | None, found: list[str]
) -> None:
    user = absent(*coming, hurts=(Hurt(hurt, A, 124.0, 125.0),) if hurt else ())
    told = user.judge(called("user_not_connected"), WELL)
    assert [text.split(":")[0] for text in told] == found


@pytest.mark.parametrize(("after_s", "found"), [(0.55, []), (0.78, ["tardy"])])
def test_the_judge_finds_that_most_devices_hear_late_that_no_user_is_there(after_s: float, found: list[str]) -> None:
    user = absent()
    for _ in range(ENOUGH):
        user.judge(Called("w", "alice", 110.0, outcomes=[(110.0 + after_s, "user_not_connected")]), WELL)
    assert [text.split(":")[0] for text in user.last()] == found
