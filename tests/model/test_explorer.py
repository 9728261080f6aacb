"""All histories up to a small depth; and each rule is needed: without it the same search finds what goes wrong.

By hand, for more depth: python -m tests.model.explorer --help
"""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.model.explored import ALPHABETS, BY_NAME, PREFIXES, STEPS, Explored, carry_out
from tests.model.explorer import counted_ids, explore, replay
from tests.model.guards import GUARDS
from tests.model.merging import copied, fingerprint

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Bound:
    """How far to search, and from where."""

    prefix: tuple[str, ...]
    depth: int
    faults: int
    leaf_every: int = 16
    alphabet: str = "all"

    def search(self) -> str:
        """What was found, and how; empty when nothing was."""
        steps = ALPHABETS[self.alphabet]
        summary = explore(self.prefix, depth=self.depth, faults=self.faults, leaf_every=self.leaf_every, steps=steps)
        assert summary.states > 1 or summary.found is not None
        return "" if summary.found is None else str(summary.found)


HER_RENEWAL = PREFIXES["her renewal is under way"]

CASES = {
    "outbox": (Bound(PREFIXES["nothing"], 3, 0), "a log-out is lost"),
    "B2-settle": (
        Bound(PREFIXES["her grant and her hello are under way"], 3, 0, alphabet="moment"),
        "a log-out is lost",
    ),
    "fence-ended-list": (Bound(HER_RENEWAL, 2, 0, alphabet="moment", leaf_every=0), "an ended session runs again"),
    "fence-nonce": (Bound(HER_RENEWAL, 3, 0), "used beyond deadline and grace"),
    "lease-lapses": (Bound(PREFIXES["alice is in"], 1, 0), "used beyond deadline and grace"),
    "lease-from-hello": (Bound(PREFIXES["hellos in vain"], 3, 0), "used beyond deadline and grace"),
    "service-time-credit": (Bound(PREFIXES["alice is in"], 2, 1, leaf_every=0), "logged out before the deadline"),
    "promise-on-disk": (Bound((*HER_RENEWAL, "alice beats"), 2, 1, leaf_every=0), "logged out before the deadline"),
    "hello-reconcile": (Bound(PREFIXES["log-out in vain"], 1, 1, leaf_every=1), "different sessions"),
    "E1-order": (
        Bound(PREFIXES["her log-out is under way"], 3, 1, alphabet="moment", leaf_every=0),
        "a log-out is lost",
    ),
    "B7-behind": (Bound(PREFIXES["old card"], 1, 0, leaf_every=1), "device and ledger disagree"),
    "B3-lost-history": (Bound(PREFIXES["old back-up"], 3, 0, leaf_every=0), "an ended session runs again"),
}

SEARCHES = {
    **{f"{prefix}, two faults": Bound(PREFIXES[prefix], 2, 2) for prefix in PREFIXES},
    "alice is in, one fault, deeper": Bound(PREFIXES["alice is in"], 3, 1),
    "her log-out is under way, one fault, deeper": Bound(PREFIXES["her log-out is under way"], 3, 1),
    "her grant is under way, in one moment": Bound(
        PREFIXES["her grant and her hello are under way"], 4, 1, alphabet="moment"
    ),
    "her renewal is under way, in one moment": Bound(HER_RENEWAL, 6, 0, alphabet="moment"),
}


@pytest.mark.parametrize("name", SEARCHES)
def test_no_history_breaks_a_promise(name: str) -> None:
    assert not SEARCHES[name].search()


@pytest.mark.parametrize("guard", GUARDS)
def test_a_promise_is_broken_without(guard: str) -> None:
    bound, broken = CASES[guard]
    with GUARDS[guard]():
        assert bound.search().startswith(broken)


@pytest.mark.parametrize("guard", GUARDS)
def test_in_the_same_bounds_nothing_is_broken_with(guard: str) -> None:
    bound, _ = CASES[guard]
    assert not bound.search()


def test_a_late_report_of_a_wiped_installation_ends_nothing_for_good() -> None:
    """Found by the search: it may end a session that the new installation was just given; a hello puts it right."""
    late = ("log-out beside the device", "a moment", "edge is wiped", "a moment", "deliver up 1", "deliver up 0")
    world = replay((*HER_RENEWAL, *late))
    assert world.store.tables.running("jetson") is None
    replay((*HER_RENEWAL, *late), kindly=True)


@pytest.fixture
def alice_is_in() -> Iterator[Explored]:
    with counted_ids():
        yield replay(PREFIXES["alice is in"])


def test_a_copy_goes_its_own_way(alice_is_in: Explored) -> None:
    before = fingerprint(alice_is_in)
    for step in STEPS:
        if step.may(alice_is_in):
            carry_out(copied(alice_is_in, {}), step)
            assert fingerprint(alice_is_in) == before, step.name


def test_a_copy_does_what_the_original_does(alice_is_in: Explored) -> None:
    for step in STEPS:
        if step.may(alice_is_in):
            copy = copied(alice_is_in, {})
            carry_out(copy, step)
            assert fingerprint(copy) == fingerprint(replay((*PREFIXES["alice is in"], step.name))), step.name


def test_states_that_are_merged_have_the_same_future(alice_is_in: Explored) -> None:
    """Every two steps, in both orders, and one more after them."""
    first: dict[bytes, Explored] = {}
    merged: list[tuple[Explored, Explored]] = []
    steps = [step for step in STEPS if step.may(alice_is_in)]
    for one in steps:
        between = copied(alice_is_in, {})
        carry_out(between, one)
        for other in steps:
            if other.may(between):
                world = copied(between, {})
                carry_out(world, other)
                known = first.setdefault(fingerprint(world), world)
                if known is not world:
                    merged.append((known, world))
    assert len(merged) > 100
    for known, world in merged[::4]:
        for step in STEPS:
            assert step.may(known) == step.may(world)
            if step.may(known):
                assert _after(known, step.name) == _after(world, step.name), step.name


def _after(world: Explored, name: str) -> bytes:
    copy = copied(world, {})
    carry_out(copy, BY_NAME[name])
    return fingerprint(copy)
