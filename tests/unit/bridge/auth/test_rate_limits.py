import pytest

from bridge.auth import rate_limits as rates
from bridge.auth.rate_limits import Budget, Budgets, Rates, amount_of, peer_of
from infra.settings.bridge import LimitsSettings
from tests.support.clock import ManualClock


def make(clock: ManualClock, **limits: str) -> Rates:
    return Rates(LimitsSettings.model_validate(limits), clock)


def test_requests_within_the_limit_pass_and_the_next_waits_until_the_window_ends() -> None:
    clock = ManualClock()
    it = make(clock, address="3/minute")
    assert [it.hit("address", "a") for _ in range(3)] == [None, None, None]
    clock.advance(20)
    assert it.hit("address", "a") == 40
    assert it.hit("address", "b") is None
    clock.advance(40)
    assert it.hit("address", "a") is None


def test_each_kind_of_limit_counts_for_itself() -> None:
    it = make(ManualClock(), address="1/minute", failures="1/minute")
    assert it.hit("address", "a") is None
    assert it.hit("failures", "a") is None
    assert it.hit("failures", "a") is not None
    assert it.hit("caller", "a") is None


def test_peers_without_number_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "MAX_PEERS", 100)
    it = make(ManualClock(), address="1/minute")
    for number in range(1000):
        assert it.hit("address", str(number)) is None
    assert len(it._budgets["address"]._windows) == 100
    assert it.hit("address", "999") is not None


@pytest.mark.parametrize(
    ("address", "peer"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("testclient", "unknown"),
        (None, "unknown"),
    ],
)
def test_an_ipv6_site_counts_as_one_peer(address: str | None, peer: str) -> None:
    assert peer_of(address) == peer


def test_a_budget_is_full_again_after_its_period() -> None:
    budget = Budget(2, 60.0)
    assert [budget.spend(now) for now in (0.0, 1.0, 2.0, 59.0, 60.0)] == [True, True, False, False, True]


def test_a_flooding_device_spends_only_its_own_budget() -> None:
    budgets = Budgets("2/second", most=2)
    assert [budgets.spend("loud", 0.0) for _ in range(3)] == [True, True, False]
    assert budgets.spend("quiet", 0.0)
    assert budgets.spend("third", 0.0)
    assert len(budgets._windows) == 2


def test_a_rate_is_an_amount_and_a_period() -> None:
    assert amount_of("60/minute") == (60, 60.0)
    assert amount_of("5/hour") == (5, 3600.0)
