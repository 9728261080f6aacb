import math

import pytest

from tools.bench.accounts import Account, Row, Statuses, middle, per_event_us, quantile, spread


def test_wakes_that_came_once_where_they_should_have_no_fault() -> None:
    account = Account(apps=2, first=4)
    for _ in range(3):
        number = account.send(10.0)
        account.came(number, number % 2, 10.5)

    assert account.faults({"sent": 3, "acked": 3}, ("sent", "acked")) == []
    assert account.latencies == [0.5, 0.5, 0.5]
    assert account.outstanding == 0


def test_a_wake_that_did_not_come_is_a_fault() -> None:
    account = Account(apps=2, first=0)
    account.came(account.send(0.0), 0, 1.0)
    account.send(0.0)

    assert account.outstanding == 1
    assert account.faults({}, ()) == ["2 were sent and 1 received"]


def test_a_duplicate_wake_is_a_fault_and_does_not_replace_a_missing_one() -> None:
    account = Account(apps=2, first=0)
    number = account.send(0.0)
    account.send(0.0)
    account.came(number, 0, 1.0)
    account.came(number, 0, 2.0)

    assert account.faults({}, ()) == ["2 were sent and 1 received", "1 came a second time or unasked"]


def test_a_wake_that_came_at_another_app_is_a_fault() -> None:
    account = Account(apps=2, first=0)
    account.came(account.send(0.0), 1, 1.0)

    assert account.faults({}, ()) == ["1 were sent and 0 received", "1 came at another app"]


def test_wakes_that_go_out_together_have_numbers_of_their_own() -> None:
    account = Account(apps=3, first=6)
    assert account.send(1.0, 3) == 6
    assert account.send(2.0) == 9
    for number in (8, 6, 9, 7):
        account.came(number, number % 3, 3.0)

    assert account.latencies == [2.0, 2.0, 1.0, 2.0]
    assert account.faults({}, ()) == []


@pytest.mark.parametrize("number", [5, 7, -1])
def test_a_number_that_was_not_sent_is_a_fault(number: int) -> None:
    account = Account(apps=1, first=6)
    account.came(account.send(0.0), 0, 1.0)
    account.came(number, 0, 1.0)

    assert account.faults({}, ()) == ["1 came a second time or unasked"]


def test_a_refusal_is_a_fault() -> None:
    account = Account(apps=1, first=0)
    account.came(account.send(0.0), 0, 1.0)
    account.refused += 1

    assert account.faults({}, ()) == ["1 were answered by a refusal"]


@pytest.mark.parametrize(
    ("told", "faults"),
    [
        ({"sent": 1}, ["0 outcomes acked, not 1"]),
        ({"sent": 2, "acked": 1}, ["2 outcomes sent, not 1"]),
        ({"sent": 1, "acked": 1, "expired": 1}, ["1 outcomes expired, not 0"]),
    ],
)
def test_each_outcome_is_told_once_per_wake_and_no_other(told: dict[str, int], faults: list[str]) -> None:
    account = Account(apps=1, first=0)
    account.came(account.send(0.0), 0, 1.0)

    assert account.faults(told, ("sent", "acked")) == faults


@pytest.mark.parametrize("at_most", [0, 50, 1_000_000])
@pytest.mark.parametrize("piece", [1, 7, 20, 33, 1000])
def test_outcomes_are_counted_once_however_the_stream_is_cut(piece: int, at_most: int) -> None:
    stream = b'{"id":"a","status":"sent"}{"id":"a","status":"acked"}{"id":"b","status":"user_not_connected"}' * 5
    statuses = Statuses()
    statuses.AT_MOST = at_most
    for at in range(0, len(stream), piece):
        statuses.feed(stream[at : at + piece])

    assert statuses.counts == {"sent": 5, "acked": 5, "user_not_connected": 5}


def test_of_what_was_counted_nothing_is_kept() -> None:
    statuses = Statuses()
    statuses.AT_MOST = 100
    for _ in range(100):
        statuses.feed(b'{"status":"sent"}')

    assert sum(map(len, statuses._pieces)) <= 100
    assert statuses.counts == {"sent": 100}


def test_quantiles_are_values_that_were_measured() -> None:
    values = [float(value) for value in range(100, 0, -1)]

    assert quantile(values, 0.5) == 50.0
    assert quantile(values, 0.99) == 99.0
    assert quantile([7.0], 0.01) == 7.0
    assert math.isnan(quantile([], 0.5))


def test_cpu_is_told_per_event_in_microseconds() -> None:
    assert per_event_us(0.5, 10_000) == pytest.approx(50.0)
    assert math.isnan(per_event_us(0.5, 0))


def test_of_several_rounds_the_median_is_told_and_the_spread_is_kept() -> None:
    rounds: list[Row] = [{"cpu": 30.0, "rate": None}, {"cpu": 10.0, "rate": None}, {"cpu": 11.0, "rate": 5.0}]

    assert middle(rounds) == {"cpu": 11.0, "rate": 5.0}
    assert spread(rounds) == {"cpu": (10.0, 30.0), "rate": (5.0, 5.0)}
    assert middle([{"rate": None}]) == {"rate": None}
