from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app_sim.reconnect import FIRST_S, MAX_ASKED_S, STABLE_AFTER_S, Reconnect, Retry, Stop, meaning, retry_after_s

DOCUMENTED_FINAL_CODES = [4500, 4501, 4502, 4503, 4504, 4505]


def highest(max_s: float = 30.0) -> Reconnect:
    return Reconnect(max_s, lambda: 1.0)


def delay(decision: Retry | Stop) -> float:
    assert isinstance(decision, Retry)
    return decision.delay_s


@given(
    draws=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=60),
    max_s=st.floats(0.01, 3600),
)
def test_the_jitter_is_full_and_its_ceiling_doubles_up_to_the_maximum(draws: list[float], max_s: float) -> None:
    numbers = iter(draws)
    policy = Reconnect(max_s, lambda: next(numbers))
    for tries, drawn in enumerate(draws):
        waited = delay(policy.after_close(1006))
        assert waited == pytest.approx(drawn * min(max_s, FIRST_S * 2**tries))
        assert 0 <= waited <= max_s


@pytest.mark.parametrize(
    ("reason", "waits_s"),
    [
        ('{"code":"drain","message":"the server restarts","retry_ms":750}', 0.75),
        ('{"retry_ms":1.5}', 0.0015),
        ('{"retry_ms":1e300}', MAX_ASKED_S),
        *((reason, 0.0) for reason in ("", "{", "[]", "7", '{"retry_ms":-1}', '{"retry_ms":true}', '{"retry_ms":"9"}')),
        ('{"retry_ms":NaN}', 0.0),
    ],
)
def test_it_waits_as_long_as_the_reason_of_the_close_asks(reason: str, waits_s: float) -> None:
    policy = Reconnect(30.0, lambda: 0.0)
    assert delay(policy.after_close(4000, reason)) == pytest.approx(waits_s)
    assert delay(highest().after_close(4000, reason)) == pytest.approx(waits_s + FIRST_S)


def test_a_server_that_is_down_for_weeks_overflows_nothing() -> None:
    policy = highest()
    for _ in range(5000):
        policy.after_failure("no connection")
    assert policy.after_failure("no connection").delay_s == 30.0


@given(code=st.one_of(st.integers(1000, 4499), st.none()))
def test_codes_below_4500_reconnect(code: int | None) -> None:
    assert isinstance(highest().after_close(code, "why"), Retry)


@given(code=st.integers(4500, 4999))
def test_codes_from_4500_are_final_and_say_why(code: int) -> None:
    decision = highest().after_close(code)
    assert isinstance(decision, Stop)
    assert decision.code == code
    assert decision.reason
    assert not decision.wanted


def test_each_documented_final_code_has_its_own_sentence() -> None:
    sentences = {meaning(code) for code in DOCUMENTED_FINAL_CODES}
    assert len(sentences) == len(DOCUMENTED_FINAL_CODES)
    assert not any("with code" in sentence for sentence in sentences)


def test_an_undocumented_code_is_told_with_the_servers_reason() -> None:
    assert meaning(4599, "gone fishing") == "the connection was closed with code 4599 (gone fishing)"


def test_a_connection_that_lasted_makes_the_next_try_a_first_one() -> None:
    policy = highest()
    for _ in range(10):
        policy.after_close(1006)
    assert delay(policy.after_close(1006, lived_s=STABLE_AFTER_S)) == FIRST_S


def test_a_server_that_closes_at_once_is_asked_less_and_less() -> None:
    policy = highest()
    waits = [delay(policy.after_close(4000, lived_s=0.01)) for _ in range(4)]
    assert waits == [FIRST_S, 2 * FIRST_S, 4 * FIRST_S, 8 * FIRST_S]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 426, 200])
def test_a_refused_handshake_is_final(status: int) -> None:
    decision = highest().after_refusal(status)
    assert isinstance(decision, Stop)
    assert f"HTTP {status}" in decision.reason


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_server_in_trouble_is_asked_again(status: int) -> None:
    assert isinstance(highest().after_refusal(status), Retry)


NOW = datetime(2026, 11, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        ([], 0),
        (["0"], 0),
        (["17"], 17),
        ([" 17 "], 17),
        (["3", "17", "5"], 17),
        (["Sun, 01 Nov 2026 12:00:30 GMT"], 30),
        (["Sun, 01 Nov 2026 11:00:00 GMT"], 0),
        (["9" * 400], MAX_ASKED_S),
        (["Fri, 31 Dec 9999 23:59:59 GMT"], MAX_ASKED_S),
        (["soon"], 0),
        (["-5"], 0),
        (["1.5"], 0),
        (["٣"], 0),
        (["Sun, 01 Nov 2026 12:00:30"], 0),
        (["inf"], 0),
        ([""], 0),
    ],
)
def test_a_server_may_ask_for_patience_in_seconds_or_by_a_date(values: list[str], seconds: float) -> None:
    assert retry_after_s(values, NOW) == seconds


def test_the_wait_that_a_server_asks_for_is_the_least_and_jitter_comes_on_top() -> None:
    policy = Reconnect(30.0, lambda: 0.5)
    assert delay(policy.after_refusal(429, 17.0)) == 17.0 + FIRST_S / 2
    assert delay(policy.after_refusal(429)) == FIRST_S


def test_a_final_refusal_is_not_retried_whatever_its_retry_after() -> None:
    assert isinstance(highest().after_refusal(403, 17.0), Stop)
