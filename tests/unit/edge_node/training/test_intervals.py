import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_node.training.intervals import Rate, Share

pytestmark = pytest.mark.slow


def at_most(hits: int, tries: int, share: float) -> float:
    """Chance of so few hits, binomial."""
    return math.fsum(math.comb(tries, k) * share**k * (1 - share) ** (tries - k) for k in range(hits + 1))


def at_most_events(events: int, mean: float) -> float:
    """Chance of so few events, Poisson."""
    return math.fsum(math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in range(events + 1))


@pytest.mark.parametrize("tries", [1, 10, 240, 5000])
def test_no_hit_or_nothing_but_hits_has_the_interval_of_the_formula(tries: int) -> None:
    assert Share(0, tries).interval == pytest.approx((0.0, 1 - 0.025 ** (1 / tries)))
    assert Share(tries, tries).interval == pytest.approx((0.025 ** (1 / tries), 1.0))


def test_shares_from_the_literature() -> None:
    assert Share(1, 10).interval == pytest.approx((0.0025, 0.4450), abs=5e-5)
    assert Share(5, 10).interval == pytest.approx((0.1871, 0.8129), abs=5e-5)


@given(numbers=st.integers(1, 200).flatmap(lambda tries: st.tuples(st.integers(0, tries), st.just(tries))))
def test_at_the_limits_of_a_share_the_count_is_just_credible(numbers: tuple[int, int]) -> None:
    hits, tries = numbers
    low, high = Share(hits, tries).interval
    if hits < tries:
        assert at_most(hits, tries, high) == pytest.approx(0.025, rel=1e-6)
    if hits:
        assert 1 - at_most(hits - 1, tries, low) == pytest.approx(0.025, rel=1e-6)
    assert 0.0 <= low <= Share(hits, tries).value <= high <= 1.0


def test_a_share_of_nothing_may_be_anything() -> None:
    assert math.isnan(Share(0, 0).value)
    assert Share(0, 0).interval == (0.0, 1.0)
    assert str(Share(0, 0)) == "nan% (0/0; 0.0% to 100.0%)"


def test_a_share_is_printed_with_its_counts_and_limits() -> None:
    assert str(Share(0, 100)) == "0.0% (0/100; 0.0% to 3.6%)"
    assert str(Share(5, 10)) == "50.0% (5/10; 18.7% to 81.3%)"
    assert str(Share(100, 100)) == "100.0% (100/100; 96.4% to 100.0%)"


@pytest.mark.parametrize("hours", [0.5, 1.0, 36.6])
def test_no_event_has_the_interval_of_the_formula(hours: float) -> None:
    assert Rate(0, hours).interval == pytest.approx((0.0, -math.log(0.025) / hours))


def test_rates_from_the_literature() -> None:
    assert Rate(1, 1.0).interval == pytest.approx((0.0253, 5.5716), abs=5e-5)
    assert Rate(5, 1.0).interval == pytest.approx((1.6235, 11.6683), abs=5e-5)


@given(events=st.integers(0, 200), hours=st.floats(0.01, 1000.0))
def test_at_the_limits_of_a_rate_the_count_is_just_credible(events: int, hours: float) -> None:
    low, high = Rate(events, hours).interval
    assert at_most_events(events, high * hours) == pytest.approx(0.025, rel=1e-6)
    if events:
        assert 1 - at_most_events(events - 1, low * hours) == pytest.approx(0.025, rel=1e-6)
    assert 0.0 <= low <= Rate(events, hours).value <= high


def test_a_rate_is_printed_with_its_counts_and_limits() -> None:
    assert str(Rate(0, 10.0)) == "0.00/h (0 in 10.0 h; 0.00 to 0.37)"
    assert str(Rate(5, 10.0)) == "0.50/h (5 in 10.0 h; 0.16 to 1.17)"


def test_a_rate_of_no_time_is_no_number_and_can_be_printed() -> None:
    assert math.isnan(Rate(0, 0.0).value)
    assert str(Rate(0, 0.0)).startswith("nan/h (0 in 0.0 h;")
