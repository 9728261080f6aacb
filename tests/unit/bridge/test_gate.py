import pytest

from bridge.gate import CLOSES_PER_S, LONGEST_S, SLOWEST_PER_S, WAITING_ALWAYS, Gate


def gate(max_sockets: int = 1_000_000, jitter: float = 0.0, waiting: int = 0) -> Gate:
    it = Gate(max_sockets, lambda: jitter)
    for _ in range(waiting):
        it.came(0.0)
    return it


def serve(it: Gate, count: int, took_s: float, now: float = 100.0) -> None:
    """The ledger takes up this number together."""
    for _ in range(count):
        it.came(now)
    for _ in range(count):
        it.answered(now + took_s)


def test_some_may_wait_however_slow_the_ledger_is() -> None:
    assert gate(waiting=WAITING_ALWAYS).has_room(0)
    it = gate(waiting=WAITING_ALWAYS + 1)
    assert not it.has_room(0)
    assert it.refusal(0.0, browser=False).retry_s == pytest.approx((WAITING_ALWAYS + 1) / SLOWEST_PER_S)


def test_a_fast_ledger_lets_two_seconds_of_its_work_wait() -> None:
    it = gate()
    serve(it, 500, 0.2)
    assert it.rate == pytest.approx(2500)
    for _ in range(4999):
        it.came(200.0)
    assert it.has_room(0)
    it.came(200.0)
    it.came(200.0)
    assert not it.has_room(0)
    assert it.refusal(200.0, browser=False).retry_s == pytest.approx(2.0004)


def test_a_storm_is_measured_over_several_transactions() -> None:
    it = gate(waiting=5000)
    for transaction in range(1, 11):
        for _ in range(500):
            it.answered(0.4 * transaction)
    assert it.rate == pytest.approx(1250, rel=0.2)


def test_the_rate_follows_the_work_and_not_the_idle_time() -> None:
    it = gate()
    serve(it, 1000, 1.0)
    for hour in range(20):
        serve(it, 100, 1.0, 3600.0 * hour)
    slow = it.rate
    assert slow < 300
    serve(it, 1, 0.001, 100_000.0)
    assert it.rate == pytest.approx(slow, rel=0.01), "one quick connect says little"


def test_a_ledger_that_is_always_at_work_is_measured_too() -> None:
    it = gate(waiting=1)
    for number in range(1, 1001):
        it.came(number / 100)
        it.answered(number / 100)
    assert it.rate == pytest.approx(100, rel=0.05)


def test_a_full_bridge_refuses_with_at_least_a_second() -> None:
    it = gate(max_sockets=10)
    assert it.has_room(9)
    assert not it.has_room(10)
    assert it.refusal(0.0, browser=False).retry_s == 1.0


def test_those_who_are_sent_away_together_come_back_spread() -> None:
    waits = [gate(0, jitter).refusal(0.0, browser=False).retry_s for jitter in (0.0, 0.5, 0.999)]
    assert waits == [1.0, 1.5, pytest.approx(1.999)]
    assert gate(waiting=100_000).refusal(0.0, browser=False).retry_s == LONGEST_S


def test_browsers_are_told_by_a_close_but_not_too_many_of_them_a_second() -> None:
    it = gate(max_sockets=0)
    told = [it.refusal(100.0, browser=True).says_so for _ in range(CLOSES_PER_S + 1)]
    assert told == [True] * CLOSES_PER_S + [False]
    assert it.refusal(101.0, browser=True).says_so
    assert not it.refusal(101.0, browser=False).says_so
