from contract.messages import Wake
from edge_node.outbox import MAX_WAKES, WakeOutbox


def wake(wake_id: str = "w", ttl_ms: int = 10_000) -> Wake:
    return Wake(id=wake_id, uid="alice", command="c", timestamp="t", ttl_ms=ttl_ms)


def test_a_wake_is_due_at_once_and_again_every_two_seconds() -> None:
    outbox = WakeOutbox()
    outbox.add(wake(), 100.0)
    for now, due in ((100.0, True), (101.9, False), (102.0, True), (103.0, False), (104.5, True)):
        wakes = outbox.due(now)
        assert bool(wakes) == due
        for again in wakes:
            assert again.age_ms == round((now - 100) * 1000)
            outbox.sent(again.id, now)


def test_its_fate_ends_the_repetition() -> None:
    outbox = WakeOutbox()
    outbox.add(wake(), 100.0)
    assert outbox.settled("w") == 100.0
    assert outbox.settled("w") is None
    assert outbox.due(200.0) == []
    assert outbox.dropped == 0


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
    assert outbox.settled("0") is None


def test_a_log_out_drops_what_was_under_way() -> None:
    outbox = WakeOutbox()
    outbox.add(wake(), 100.0)
    outbox.clear()
    assert (len(outbox), outbox.dropped) == (0, 1)
