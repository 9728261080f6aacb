import pytest

from infra.mqtt.pacing import STABLE_AFTER_S, Pacing

FAILED_S = 1.0


@pytest.fixture(autouse=True)
def _no_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda _lowest, highest: highest)


def after(attempts: int, addresses: int, most_s: float = 10.0) -> Pacing:
    pacing = Pacing(addresses, most_s)
    for _ in range(attempts):
        pacing.ended(FAILED_S)
    return pacing


@pytest.mark.parametrize(
    ("addresses", "pauses"),
    [(1, [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 10.0]), (3, [0.25, 0.25, 0.25, 0.5, 0.25, 0.25, 1.0])],
)
def test_the_pause_grows_with_each_round(addresses: int, pauses: list[float]) -> None:
    assert [after(attempts, addresses).pause_s() for attempts in range(7)] == pauses


@pytest.mark.parametrize(
    ("addresses", "waits"),
    [(1, [10.0] * 7), (3, [2.0, 2.0, 2.0, 4.0, 4.0, 4.0, 8.0]), (2, [2.0, 2.0, 4.0, 4.0, 8.0, 8.0, 10.0])],
)
def test_an_answer_is_waited_for_shortly_while_another_address_is_left(addresses: int, waits: list[float]) -> None:
    assert [after(attempts, addresses).answer_s for attempts in range(7)] == waits


def test_tcp_is_waited_for_no_longer_than_the_answer() -> None:
    assert [after(attempts, 2).connect_s for attempts in (0, 2, 4, 1000)] == [2.0, 4.0, 5.0, 5.0]
    assert after(0, 1).connect_s == 5.0


def test_a_connection_that_stood_ends_the_count_and_a_short_one_does_not() -> None:
    pacing = after(6, 3)
    pacing.ended(STABLE_AFTER_S)
    assert pacing.answer_s == 8.0
    pacing.ended(STABLE_AFTER_S + 1)
    assert (pacing.answer_s, pacing.pause_s()) == (2.0, 0.25)
