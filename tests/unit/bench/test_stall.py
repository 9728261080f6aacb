import math

import pytest

from tools.bench.accounts import Row
from tools.bench.stall import cause, measure_stall


class Load:
    """Two apps whose beats take as long as it says, in seconds."""

    apps = 2

    def __init__(self, *latencies: float) -> None:
        self.now = 0.0
        self.asked: list[int] = []
        self._latencies = list(latencies)

    def one_beat(self, app: int) -> float:
        self.asked.append(app)
        self.now += self._latencies[len(self.asked) - 1]
        return self._latencies[len(self.asked) - 1]


def measured(load: Load, *looks: tuple[float, float, float], seconds: float) -> Row:
    left = list(looks)
    return measure_stall(load, 1, seconds, look=lambda _: left.pop(0), clock=lambda: load.now)


def test_apps_beat_in_turn_and_the_longest_answer_is_told_with_what_was_done_in_it() -> None:
    load = Load(0.001, 0.2, 0.002)
    row = measured(load, (0.0, 0.0, 0.0), (0.001, 0.0, 0.0), (0.191, 0.01, 0.0), (0.193, 0.01, 0.0), seconds=0.203)

    assert load.asked == [0, 1, 0]
    assert row == pytest.approx(
        {"stall_us": 200_000.0, "stall_ran_us": 190_000.0, "stall_no_core_us": 10_000.0, "stall_p99_us": 200_000.0}
    )


def test_a_time_in_which_the_load_had_no_core_is_not_the_servers() -> None:
    row = measured(Load(0.5, 0.1), (0.0, 0.0, 0.0), (0.0, 0.0, 0.45), (0.0, 0.0, 0.45), seconds=0.6)

    assert row["stall_us"] == pytest.approx(100_000.0)


def test_where_the_kernel_does_not_count_the_whole_answer_is_told() -> None:
    nobody = (math.nan, math.nan, math.nan)

    assert measured(Load(0.5), nobody, nobody, seconds=0.5)["stall_us"] == pytest.approx(500_000.0)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"stall_us": 250_000.0, "stall_ran_us": 245_000.0}, "longest stall 250.0 ms; of that it was computing 98%"),
        (
            {"stall_us": 1_000.0, "stall_ran_us": 100.0, "stall_no_core_us": 900.0},
            "longest stall 1.0 ms; of that it was computing 10%, it had no core 90%",
        ),
        (
            {"stall_us": 80_000.0, "stall_ran_us": 8_000.0, "stall_no_core_us": 0.0},
            "longest stall 80.0 ms; of that it was computing 10%, it waited for something else 90%",
        ),
    ],
)
def test_a_stall_says_what_the_server_did_meanwhile(row: Row, told: str) -> None:
    assert cause(row) == told


def test_where_the_kernel_does_not_count_nothing_is_claimed() -> None:
    assert cause({"stall_us": 1_000.0, "stall_ran_us": math.nan}) == "longest stall 1.0 ms; of that nothing is known"


def test_who_was_not_asked_has_no_stall() -> None:
    assert cause({}) is None
