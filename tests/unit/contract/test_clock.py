from contract.clock import Stamps, SystemClock, iso
from tests.support.clock import ManualClock


def test_the_stamps_of_a_millisecond_are_the_same_and_none_is_older() -> None:
    clock = ManualClock()
    stamps = Stamps(clock)
    first = stamps.now()
    assert first == iso(clock.utc_now())
    clock.advance(0.0009)
    assert stamps.now() == first
    clock.advance(0.0002)
    assert stamps.now() == iso(clock.utc_now()) != first


def test_the_systems_clock_tells_aware_time_that_does_not_go_back() -> None:
    clock = SystemClock()
    assert iso(clock.utc_now()).endswith("+00:00")
    assert clock.monotonic() <= clock.monotonic()
