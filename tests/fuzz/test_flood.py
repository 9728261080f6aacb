import pytest

from tests.support.world import BROKERS
from tools.bench.flood import measure


@pytest.mark.parametrize("kind", BROKERS)
def test_while_one_device_floods_anothers_wakes_arrive(kind: str) -> None:
    (row,) = measure(kind, 5, 25.0, [("wake", 1)])
    assert row["flood_per_s"] > 1000
    assert row["wakes"] >= 1
    assert row["lost"] == 0
