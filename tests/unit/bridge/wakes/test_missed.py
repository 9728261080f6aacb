from bridge.storage.records import Missed, MissedTold
from bridge.wakes.missed import MissedWakes


def wake(number: int, uid: str = "alice") -> Missed:
    return Missed(f"w{number}", uid, "wake_up", "jetson", "then")


def test_the_list_is_what_the_ledger_has_and_what_was_just_missed() -> None:
    missed = MissedWakes()
    missed.add(wake(3))
    missed.add(wake(4, "bob"))
    assert missed.take("alice", [wake(1), wake(2)]) == [wake(1), wake(2), wake(3)]
    assert missed.take_unsaved() == [
        wake(3), wake(4, "bob"), MissedTold("w1"), MissedTold("w2"), MissedTold("w3"),
    ]  # fmt: skip


def test_a_second_app_that_connects_before_that_is_stored_is_told_nothing_again() -> None:
    missed = MissedWakes()
    assert missed.take("alice", [wake(1)]) == [wake(1)]
    assert missed.take("alice", [wake(1)]) == []
    taken = missed.take_unsaved()
    assert missed.take("alice", [wake(1)]) == []
    missed.put_back(taken)
    assert missed.take("alice", [wake(1)]) == []
    assert missed.take_unsaved() == [MissedTold("w1")]


def test_a_wake_that_is_being_stored_is_listed_once() -> None:
    """The app connects after it was taken to be stored: the ledger may have it, or not yet."""
    for stored in ([], [wake(1)]):
        missed = MissedWakes()
        missed.add(wake(1))
        missed.take_unsaved()
        assert missed.take("alice", stored) == [wake(1)]
        missed.put_back([])
        assert missed.take_unsaved() == [MissedTold("w1")]


def test_a_wake_that_could_not_be_stored_is_stored_before_it_counts_as_told() -> None:
    missed = MissedWakes()
    missed.add(wake(1))
    taken = missed.take_unsaved()
    assert missed.take("alice", []) == [wake(1)]
    missed.put_back(taken)
    assert missed.take_unsaved() == [wake(1), MissedTold("w1")]


def test_of_too_many_the_newest_are_told_and_none_is_told_later() -> None:
    missed = MissedWakes()
    missed.add(wake(20))
    assert missed.take("alice", [wake(number) for number in range(20)]) == [wake(n) for n in range(1, 21)]
    assert [change for change in missed.take_unsaved() if isinstance(change, MissedTold)] == [
        MissedTold(f"w{number}") for number in range(21)
    ]
