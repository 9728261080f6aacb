import pytest

from broker.server.keepalive import KeepAlive


def test_a_client_has_one_and_a_half_times_its_keep_alive() -> None:
    assert KeepAlive(10, now=100).left_s(now=100) == pytest.approx(15)


def test_a_packet_moves_the_deadline() -> None:
    keepalive = KeepAlive(10, now=100)
    keepalive.heard(now=114)
    assert keepalive.left_s(now=116) == pytest.approx(13)


def test_a_silent_client_is_gone() -> None:
    left_s = KeepAlive(10, now=100).left_s(now=115)
    assert left_s is not None
    assert left_s <= 0


def test_a_client_without_keep_alive_is_never_gone() -> None:
    assert KeepAlive(0, now=100).left_s(now=1e9) is None
