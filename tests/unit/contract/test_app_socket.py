import pytest

from contract.app_socket import CloseCode, comes_back


@pytest.mark.parametrize(
    ("code", "again"),
    [(1000, True), (1006, True), (4000, True), (4499, True), (4500, False), (4999, False), (5000, True)],
)
def test_an_app_comes_back_by_itself_but_for_the_codes_from_4500_on(code: int, again: bool) -> None:
    assert comes_back(code) is again


def test_only_the_temporary_close_codes_and_the_restart_allow_a_reconnect() -> None:
    assert {code.name for code in CloseCode if comes_back(code)} == {"GOING_AWAY", "DRAIN", "SLOW_CONSUMER", "RATE"}
