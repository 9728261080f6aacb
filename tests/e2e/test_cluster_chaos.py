"""Proof that the judge of `scripts/chaos --cluster` can find something."""

import pytest

from contract.app_socket import CloseCode
from tools.chaos.cluster import judge
from tools.chaos.cluster.guards import GUARDS
from tools.chaos.cluster.house import Hurt
from tools.chaos.cluster.judge import Asked, Called, Canaries, Canary, LoggedOut, Rung, Spell

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
