from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.cluster.peers import ALONE, Peers, live_peers
from bridge.storage.records import BridgeRow

INSTANCES = st.lists(st.sampled_from([f"bridge-{n}" for n in range(1, 7)]), min_size=1, unique=True)


def row(instance: str, seen_s: float = 100.0) -> BridgeRow:
    return BridgeRow(instance, f"run of {instance}", seen_s)


def views(instances: list[str]) -> list[Peers]:
    rows = [row(instance) for instance in instances]
    return [live_peers(instance, rows, 100.0) for instance in instances]


def test_a_bridge_alone_is_the_first_for_every_name() -> None:
    assert {ALONE.rank(f"w{n}") for n in range(100)} == {0}
    assert ALONE.others == ()


def test_a_row_counts_for_three_seconds_of_service_time() -> None:
    rows = [row("a", 97.0), row("b", 97.001)]

    assert live_peers("c", rows, 100.0).others == ("b",)


@pytest.mark.parametrize(
    "deaf_or_leaving",
    [replace(row("b"), hears=False), replace(row("b"), draining=True), replace(row("b"), gone=True)],
)
def test_a_bridge_that_is_deaf_or_leaves_is_no_peer(deaf_or_leaving: BridgeRow) -> None:
    rows = [row("a"), deaf_or_leaving]

    assert live_peers("a", rows, 100.0).others == ()
    assert live_peers("b", rows, 100.0) == Peers("b", ("a",), acts=False)


@pytest.mark.parametrize(
    "out_of_reach",
    [replace(row("b"), hears=False), replace(row("b"), draining=True), row("b", 60.0), row("b", 40.001)],
    ids=["deaf", "leaves", "cut off from the database", "for almost a minute"],
)
def test_a_bridge_that_does_not_act_may_have_sockets(out_of_reach: BridgeRow) -> None:
    peers = live_peers("a", [row("a"), out_of_reach], 100.0)

    assert (peers.others, peers.around, peers.alone) == ((), True, False)


@pytest.mark.parametrize("no_more", [replace(row("b"), gone=True), row("b", 40.0)], ids=["ended", "silent"])
def test_a_bridge_that_is_gone_leaves_the_other_alone(no_more: BridgeRow) -> None:
    assert live_peers("a", [row("a"), no_more], 100.0).alone


def test_a_last_will_counts_before_the_row_is_old() -> None:
    rows = [row("a"), row("b"), row("c")]

    assert live_peers("a", rows, 100.0, offline={"b"}).others == ("c",)
    assert live_peers("b", rows, 100.0, offline={"b"}) == Peers("b", ("a", "c"), acts=False)


def test_a_bridge_that_leaves_comes_last_and_is_the_first_if_no_other_is_there() -> None:
    leaving = replace(row("a"), draining=True)

    assert live_peers("a", [leaving, row("b"), row("c")], 100.0).rank("w1") == 2
    assert live_peers("a", [leaving], 100.0).rank("w1") == 0


def test_the_order_for_a_name_is_the_same_in_every_version() -> None:
    of_three = views(["bridge-1", "bridge-2", "bridge-3"])

    assert [view.rank("w1") for view in of_three] == [2, 0, 1]
    assert [view.rank("w2") for view in of_three] == [1, 0, 2]


@given(INSTANCES, st.text(max_size=20))
def test_bridges_with_one_view_have_different_places(instances: list[str], name: str) -> None:
    assert sorted(view.rank(name) for view in views(instances)) == list(range(len(instances)))


@given(INSTANCES, st.text(max_size=20), st.data())
def test_if_a_bridge_dies_those_after_it_move_up_by_one_and_no_other_moves(
    instances: list[str], name: str, data: st.DataObject
) -> None:
    dead = data.draw(st.sampled_from(instances))
    before = {view.me: view.rank(name) for view in views(instances)}
    after = {view.me: view.rank(name) for view in views([one for one in instances if one != dead])}

    assert after == {one: place - (place > before[dead]) for one, place in before.items() if one != dead}


def test_names_are_spread_over_the_bridges() -> None:
    first = Counter(view.me for n in range(3000) for view in views(["a", "b", "c"]) if view.rank(f"w{n}") == 0)

    assert sum(first.values()) == 3000
    assert min(first.values()) > 900
