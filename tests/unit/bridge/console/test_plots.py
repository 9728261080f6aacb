"""The plots of the overview as coordinates, sentences and numbers."""

import re

import pytest

from bridge.console.plots import HEIGHT, WIDTH, Plots, ms, nice, plots
from bridge.console.words import LANGUAGES, Language
from bridge.wakes.minutes import MINUTES, Minutes

NOW = 3600.0 * 1000


def made(*wakes: tuple[float, int, list[float]], began: float = 0.0, language: Language = "en") -> Plots:
    minutes = Minutes(began)
    for ago_s, count, latencies in wakes:
        minutes.add(NOW - ago_s, count, latencies)
    return plots(language, minutes.hour(NOW), NOW)


def points(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", path)]


def test_each_minute_with_wakes_is_a_bar_as_high_as_its_share_of_the_top() -> None:
    found = made((120, 10, []), (0, 5, []))
    assert found.paths["rate"] == "M571 100V0.0h8V100zM591 100V50.0h8V100z"
    assert found.texts["rate_top"] == "10"
    assert found.texts["rate_told"] == "Wakes in the last hour: 15; most in one minute: 10."


def test_a_line_is_broken_where_nothing_was_confirmed_and_a_minute_alone_is_a_dot() -> None:
    found = made((240, 1, [1.0]), (120, 1, [1.0]), (60, 1, [1.0]), (0, 1, [10_000.0]))
    assert re.fullmatch(r"M555 [\d.]+h0M575 [\d.]+h0L585 [\d.]+L595 [\d.]+", found.paths["p50"])
    (_, slow), (_, fast) = points(found.paths["p50"])[-1], points(found.paths["p50"])[0]
    assert fast == pytest.approx(80, abs=1), "1 ms is one power of ten above the lowest line"
    assert slow == pytest.approx(0, abs=1), "10 s is the top"


@pytest.mark.parametrize("latency", [0.0, 0.01, 0.1, 59_000.0, 1e7])
def test_every_point_is_inside_the_picture(latency: float) -> None:
    found = made(*((60.0 * minute, 10**6, [latency]) for minute in range(MINUTES)[::-1]))
    for name in ("p50", "p99"):
        assert len(points(found.paths[name])) == MINUTES
        assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in points(found.paths[name]))


def test_the_time_before_the_bridge_is_grey_and_told() -> None:
    found = made((60, 1, []), began=NOW - 60)
    assert found.paths["unknown"].count("M") == MINUTES - 2
    assert found.texts["rate_told"].endswith("58 min are not known.")
    assert found.rows[0].wakes == 1
    assert found.rows[-1].wakes is None


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_latencies_are_told_in_words(language: Language) -> None:
    told = made((60, 3, [2.0, 2.0, 2500.0]), language=language).texts["latency_told"]
    assert re.search(r"\b[12]\.\d ms", told)
    assert re.search(r"2\.\d s", told)
    assert made(language=language).texts["latency_told"] != told


def test_the_numbers_are_those_of_five_minutes_the_newest_first() -> None:
    found = made((301, 2, [1.0]), (0, 3, []))
    assert len(found.rows) == 12
    assert [row.wakes for row in found.rows[:3]] == [3, 2, 0]
    assert found.rows[0].since == NOW - 4 * 60
    assert found.rows[0].p50_ms is None
    assert found.rows[1].p50_ms == pytest.approx(1.0, rel=0.1)


@pytest.mark.parametrize(
    ("most", "top"), [(0, 5), (3, 5), (5, 5), (6, 10), (11, 20), (21, 50), (99, 100), (101, 200), (3000, 5000)]
)
def test_the_top_is_a_round_number(most: int, top: int) -> None:
    assert nice(most) == top


def test_latencies_have_the_digits_that_they_have() -> None:
    assert [ms(value) for value in (0.12, 9.96, 10.4, 999, 1500)] == ["0.1 ms", "10.0 ms", "10 ms", "999 ms", "1.5 s"]
