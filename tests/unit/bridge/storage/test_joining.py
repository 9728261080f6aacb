from dataclasses import replace

from bridge.storage.postgres.joining import ENDED_S, STILL_S, Joining
from bridge.storage.records import BridgeRow

A, B = BridgeRow("a", "run-a", 5.0, beat=7), BridgeRow("b", "run-b", 5.0, beat=3)
BOTH = {"a", "b"}


def test_without_other_bridges_it_is_the_first_at_once() -> None:
    assert Joining("a").look([], set(), 100.0) == "first"
    assert Joining("a").look([replace(A, gone=True), replace(B, gone=True)], BOTH, 100.0) == "first"


def test_it_joins_a_bridge_that_beats_also_while_the_service_time_stands_still() -> None:
    joining = Joining("c")
    assert joining.look([A, B], BOTH, 100.0) == "wait"
    assert joining.look([A, replace(B, beat=4)], BOTH, 100.5) == "joins"


def test_it_is_the_first_if_no_other_bridge_beats_for_a_while() -> None:
    joining = Joining("c")
    assert joining.look([A], BOTH, 100.0) == "wait"
    assert joining.look([A], BOTH, 100.0 + STILL_S - 0.1) == "wait"
    assert joining.look([A], BOTH, 100.0 + STILL_S) == "first"


def test_a_bridge_without_a_connection_is_waited_for_shortly() -> None:
    joining = Joining("c")
    assert joining.look([A], set(), 100.0) == "wait"
    assert joining.look([A], set(), 100.0 + ENDED_S) == "first"


def test_a_name_whose_bridge_beats_is_taken() -> None:
    joining = Joining("a")
    assert joining.look([A, B], BOTH, 100.0) == "wait"
    assert joining.look([replace(A, beat=8), B], BOTH, 100.5) == "taken"


def test_two_that_start_with_one_name_do_not_both_get_it() -> None:
    joining = Joining("a")
    assert joining.look([B], BOTH, 100.0) == "wait"
    assert joining.look([BridgeRow("a", "another run", 5.0), B], BOTH, 100.5) == "taken"


def test_the_name_of_a_killed_bridge_is_waited_for_although_others_beat() -> None:
    joining = Joining("a")
    assert joining.look([A, B], BOTH, 100.0) == "wait"
    beats = replace(B, beat=4)
    assert joining.look([A, beats], BOTH, 100.0 + STILL_S - 0.1) == "wait"
    assert joining.look([A, beats], BOTH, 100.0 + STILL_S) == "joins"
