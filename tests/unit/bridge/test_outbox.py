from itertools import pairwise

from bridge.ledger import PendingLogout
from bridge.outbox import Outbox


def row(device_id: str = "jetson", session_id: str = "s1") -> PendingLogout:
    return PendingLogout("c-" + session_id, session_id, device_id, "alice", 1, "app", "now")


def test_a_command_is_not_repeated_to_a_device_that_is_not_seen() -> None:
    outbox = Outbox()
    outbox.add(row(), now=0)
    assert outbox.due(1000) == []


def test_a_command_is_repeated_to_a_device_that_is_online_until_it_confirms() -> None:
    outbox = Outbox(jitter=lambda: 1.0)
    outbox.add(row(), now=0)
    outbox.seen("jetson", online=True)
    assert outbox.due(1.9) == []
    assert outbox.due(2.0) == [row()]
    assert outbox.due(2.1) == []
    outbox.settled("jetson", "s1")
    assert outbox.due(1000) == []
    assert len(outbox) == 0


def test_repetitions_become_rarer_up_to_a_minute() -> None:
    outbox = Outbox(jitter=lambda: 1.0)
    outbox.seen("jetson", online=True)
    outbox.add(row(), now=0)
    times = [second for second in range(1000) if outbox.due(second)]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert gaps == sorted(gaps)
    assert gaps[-1] == 60


def test_a_dead_device_delays_no_other_and_order_is_kept_per_device() -> None:
    outbox = Outbox()
    outbox.add(row("dead", "s0"), now=0)
    outbox.add(row("jetson", "s1"), now=0)
    outbox.add(row("jetson", "s2"), now=0)
    outbox.seen("jetson", online=True)
    assert [waiting.session_id for waiting in outbox.due(5)] == ["s1", "s2"]


def test_a_confirmation_of_something_unknown_changes_nothing() -> None:
    outbox = Outbox()
    outbox.add(row(), now=0)
    outbox.settled("jetson", "other")
    outbox.settled("other", "s1")
    assert len(outbox) == 1
