from hypothesis import given
from hypothesis import strategies as st

from broker.server.journal import Message
from broker.server.offline_queue import OVERHEAD_BYTES, OfflineQueue, QueuedBytes, cost

SIZES = st.lists(st.integers(0, 3_000), max_size=40)


def message(size: int) -> Message:
    return Message(None, "t", 1, b"x" * size, retain=False)


@given(SIZES, SIZES)
def test_the_newest_stay_as_many_as_fit_and_are_counted(one: list[int], other: list[int]) -> None:
    kept = QueuedBytes()
    backlogs = [OfflineQueue(kept), OfflineQueue(kept)]
    for backlog, sizes in zip(backlogs, (one, other), strict=True):
        told = [message(size) for size in sizes]
        gone = [dropped for each in told for dropped in backlog.keep(each, max_count=5, max_cost=6_000)]
        stay = list(backlog._messages or ())
        assert {id(each) for each in [*gone, *stay]} == {id(each) for each in told}
        assert len(stay) <= 5
        assert backlog.cost == sum(cost(each) for each in stay) <= 6_000
        assert [id(each) for each in stay] == [id(each) for each in told][len(told) - len(stay) :]
    assert kept.total == backlogs[0].cost + backlogs[1].cost
    backlogs[0].clear()
    assert kept.total == backlogs[1].cost


def test_a_message_that_alone_is_too_much_takes_no_others_place() -> None:
    backlog, small, large = OfflineQueue(QueuedBytes()), message(1), message(10_000)
    assert backlog.keep(small, max_count=5, max_cost=2_000) == []
    (dropped,) = backlog.keep(large, max_count=5, max_cost=2_000)
    assert dropped is large
    assert backlog.cost == cost(small) == 2 + OVERHEAD_BYTES
    (dropped,) = backlog.keep(large, max_count=0, max_cost=20_000)
    assert dropped is large
