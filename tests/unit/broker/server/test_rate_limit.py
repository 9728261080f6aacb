import pytest

from broker.server.rate_limit import MAX_WAIT_S, RateLimit


def test_a_burst_is_read_at_once_and_what_follows_at_the_rate() -> None:
    pace = RateLimit(10, now=0.0)
    assert [pace.spend(0.0) for _ in range(20)] == [0.0] * 20
    assert pace.spend(0.0) == pytest.approx(0.1)
    assert pace.spend(0.1) == pytest.approx(0.1)


def test_a_client_that_was_quiet_has_its_burst_again_and_not_more() -> None:
    pace = RateLimit(10, now=0.0)
    for _ in range(20):
        pace.spend(0.0)
    assert [pace.spend(3600.0) for _ in range(20)] == [0.0] * 20
    assert pace.spend(3600.0) > 0


def test_a_client_that_made_much_work_waits_repeatedly_but_never_for_long() -> None:
    pace = RateLimit(10, now=0.0)
    assert pace.spend(0.0, 60) == MAX_WAIT_S
    assert [pace.spend(float(now), 0) for now in range(1, 6)] == [1.0, 1.0, 1.0, 0.0, 0.0]
