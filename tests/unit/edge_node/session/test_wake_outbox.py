import pytest

from contract.messages import Wake
from edge_node.session.wake_outbox import MAX_WAKES, WakeOutbox


def wake(wake_id: str = "w", ttl_ms: int = 10_000) -> Wake:
    return Wake(id=wake_id, uid="alice", command="c", timestamp="t", ttl_ms=ttl_ms)


def test_a_wake_is_due_at_once_and_again_every_two_seconds() -> None:
    outbox = WakeOutbox()
    outbox.add(wake(), 100.0)
    for now, due in ((100.0, True), (101.9, False), (102.0, True), (103.0, False), (104.5, True)):
        wakes = outbox.due(now)
        assert bool(wakes) == due
        for one in wakes:
            assert one.wake.age_ms == round((now - 100) * 1000)
            assert one.again == (now > 100.0)
            outbox.sent(one.wake.id, now)


def test_its_fate_ends_the_repetition() -> None:
    outbox = WakeOutbox()
    outbox.add(wake(), 100.0)
    assert outbox.settled("w", "sent")
    assert not outbox.settled("w", "sent")
    assert (outbox.due(104.0), len(outbox)) == ([], 0)
    assert outbox.heard_at("w") == 100.0
    assert outbox.due(200.0) == []
    assert (outbox.dropped, outbox.heard_at("w")) == (0, None)


@pytest.mark.parametrize("bad", ["user_not_connected", "expired", "rejected"])
def test_a_better_fate_replaces_a_worse_one_while_the_wake_lives(bad: str) -> None:
    outbox = WakeOutbox()
    outbox.add(wake(), 100.0)
    told = [bad, "sent", bad, "pushed", "sent", "acked", "pushed", bad]
    assert [outbox.settled("w", status) for status in told] == [True, True, False, True, False, True, False, False]


def test_of_a_wake_that_is_over_only_an_app_or_a_push_counts() -> None:
    outbox = WakeOutbox()
    outbox.add(wake(ttl_ms=1000), 100.0)
    assert outbox.settled("w", "user_not_connected")
    outbox.due(101.0)
    told = ("sent", "user_not_connected", "acked", "pushed")
    assert [outbox.settled("w", status) for status in told] == [False, False, True, True]


def test_a_bounded_number_of_answered_wakes_is_remembered() -> None:
    outbox = WakeOutbox()
    for number in range(MAX_WAKES + 1):
        outbox.add(wake(str(number)), 100.0)
        outbox.settled(str(number), "sent")
    assert (outbox.heard_at("0"), outbox.heard_at("1")) == (None, 100.0)


def test_a_stale_wake_is_dropped_and_counted_never_sent() -> None:
    outbox = WakeOutbox()
    outbox.add(wake(ttl_ms=1000), 100.0)
    assert outbox.due(101.0) == []
    assert (len(outbox), outbox.dropped) == (0, 1)


def test_a_wake_that_could_not_be_sent_stays_due() -> None:
    outbox = WakeOutbox()
    outbox.add(wake(), 100.0)
    assert outbox.due(100.0)
    assert outbox.due(100.1)


def test_the_oldest_wake_makes_room() -> None:
    outbox = WakeOutbox()
    for number in range(MAX_WAKES + 1):
        outbox.add(wake(str(number)), 100.0)
    assert (len(outbox), outbox.dropped) == (MAX_WAKES, 1)
    assert outbox.heard_at("0") is None


def test_a_log_out_drops_what_was_under_way() -> None:
    outbox = WakeOutbox()
    outbox.add(wake(), 100.0)
    outbox.clear()
    assert (len(outbox), outbox.dropped) == (0, 1)
