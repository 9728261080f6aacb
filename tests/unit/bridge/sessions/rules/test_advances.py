from bridge.sessions.rules.advances import STILL_S, Advances


def advances(*seen: tuple[float, float]) -> Advances:
    """At 100 s it begins to watch; then it sees these values at these times."""
    it = Advances(100.0)
    for seconds, now in seen:
        it.seen(seconds, now)
    return it


def test_no_user_is_logged_out_before_the_row_has_advanced_twice() -> None:
    assert not advances().may_end
    assert not advances((5.0, 100.0), (5.0, 101.0), (6.0, 101.5)).may_end
    assert advances((5.0, 100.0), (6.0, 101.0), (7.0, 102.0)).may_end


def test_a_row_that_no_bridge_advances_stands_still() -> None:
    it = advances((5.0, 100.0), (5.0, 102.0))
    assert not it.stood_still(5.0, 100.0 + STILL_S - 0.1)
    assert it.stood_still(5.0, 100.0 + STILL_S)


def test_a_row_that_another_bridge_has_just_advanced_did_not_stand_still_for_this_one() -> None:
    assert not advances((5.0, 100.0)).stood_still(6.0, 200.0)


def test_after_a_standstill_two_advances_are_waited_for_again() -> None:
    it = advances((5.0, 100.0), (6.0, 101.0), (7.0, 102.0))
    it.seen(8.0, 102.0 + STILL_S)
    assert not it.may_end
    it.seen(9.0, 106.0)
    assert it.may_end
