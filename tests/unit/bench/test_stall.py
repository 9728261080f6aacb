import math

import pytest

from tests.bench.accounts import Row
from tests.bench.stall import cause


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
