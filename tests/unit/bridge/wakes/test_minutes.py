"""The last hour by the minute."""

import pytest

from bridge.wakes.minutes import BOUNDS_MS, MINUTES, Minute, Minutes, summed_up


def test_a_minute_before_the_start_is_not_known_and_one_without_wakes_is() -> None:
    minutes = Minutes(began=600.0)
    minutes.add(660.0, 2, [1.0])
    hour = minutes.hour(725.0)
    assert len(hour) == MINUTES
    assert hour[:-3] == [None] * (MINUTES - 3)
    assert [minute and minute.wakes for minute in hour[-3:]] == [0, 2, 0]


def test_what_is_older_than_an_hour_is_forgotten() -> None:
    minutes = Minutes(began=0.0)
    minutes.add(0.0, 5, [])
    minutes.add(3599.0, 1, [])
    assert [minute.wakes for minute in minutes.hour(3599.0) if minute and minute.wakes] == [5, 1]
    minutes.add(3600.0, 1, [])
    assert [minute.wakes for minute in minutes.hour(3600.0) if minute and minute.wakes] == [1, 1]
    assert [minute.wakes for minute in minutes.hour(9000.0) if minute and minute.wakes] == []


def test_a_clock_that_is_set_back_breaks_nothing() -> None:
    minutes = Minutes(began=6000.0)
    minutes.add(6000.0, 1, [])
    minutes.add(60.0, 1, [3.0])
    minutes.add(6060.0, 1, [])
    assert [minute.wakes for minute in minutes.hour(6060.0) if minute and minute.wakes] == [1]


@pytest.mark.parametrize("share", [0.5, 0.99, 1.0])
def test_a_quantile_is_at_most_ten_percent_away(share: float) -> None:
    values = [0.3 * 1.01**number for number in range(1000)]
    minutes = Minutes(began=0.0)
    minutes.add(1.0, 0, values)
    found = summed_up([minute for minute in minutes.hour(1.0) if minute]).quantile_ms(share)
    assert found == pytest.approx(values[round(share * 1000) - 1], rel=0.1)


@pytest.mark.parametrize("ms", [-1.0, 0.0, 0.01, 59_999.0, 1e9])
def test_each_latency_falls_somewhere(ms: float) -> None:
    minutes = Minutes(began=0.0)
    minutes.add(1.0, 1, [ms])
    minute = minutes.hour(1.0)[-1]
    assert minute is not None
    assert minute.acked == 1
    assert (minute.quantile_ms(0.5) or 0.0) <= BOUNDS_MS[-1]


def test_without_a_confirmation_there_is_no_quantile() -> None:
    assert Minute(3).quantile_ms(0.5) is None


def test_minutes_are_summed_up() -> None:
    minutes = Minutes(began=0.0)
    minutes.add(1.0, 1, [1.0, 100.0])
    minutes.add(61.0, 2, [1.0])
    total = summed_up([minute for minute in minutes.hour(61.0) if minute])
    assert (total.wakes, total.acked) == (3, 3)
    assert total.quantile_ms(0.5) == pytest.approx(1.0, rel=0.1)
