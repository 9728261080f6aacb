import pytest

from contract.messages import OutcomeStatus
from sarvis.fleet.report import complaint
from sarvis.fleet.tally import KEPT_FOR_S, Missing, Tally

LIFE_S = 10.0


@pytest.fixture
def tally() -> Tally:
    it = Tally(LIFE_S)
    it.made("w", "kitchen", "alice", 100.0)
    return it


def told(tally: Tally) -> str | None:
    wakes = tally.wakes()
    return complaint(wakes.missing, wakes.made)


def test_a_wake_that_rang_and_is_acked_is_accounted_for_and_timed_from_the_word(tally: Tally) -> None:
    tally.outcome("w", "sent", 100.003)
    tally.rang("phone", "alice", "w", 100.005)
    tally.outcome("w", "acked", 100.007)
    wakes = tally.wakes()
    assert (wakes.made, wakes.received, wakes.fates["acked"], wakes.fates["none"]) == (1, 1, 1, 0)
    assert (wakes.outcome.max, wakes.app.max) == (3.0, 5.0)
    assert not wakes.missing
    assert told(tally) is None


def test_a_wake_without_a_fate_is_missing(tally: Tally) -> None:
    tally.rang("phone", "alice", "w", 100.005)
    assert told(tally) == "of 1 wakes 1 have no outcome: no device received one"


def test_an_acked_wake_that_no_app_of_its_user_heard_is_missing(tally: Tally) -> None:
    tally.outcome("w", "acked", 100.1)
    assert tally.wakes().missing == Missing(0, 1, 0, 0)
    assert "no app of their user rang" in (told(tally) or "")


@pytest.mark.parametrize("fate", ["sent", "user_not_connected", "expired", "rejected"])
def test_only_an_acked_wake_must_have_rung(tally: Tally, fate: OutcomeStatus) -> None:
    tally.outcome("w", fate, 100.1)
    assert told(tally) is None
    assert tally.wakes().fates[fate] == 1


def test_two_apps_of_a_user_ring_once_each_and_that_is_right(tally: Tally) -> None:
    tally.rang("phone", "alice", "w", 100.1)
    tally.rang("watch", "alice", "w", 100.2)
    tally.outcome("w", "acked", 100.2)
    wakes = tally.wakes()
    assert (wakes.received, wakes.duplicates) == (1, 0)
    assert not wakes.missing


def test_an_app_that_rings_twice_is_wrong_and_not_timed_again(tally: Tally) -> None:
    tally.rang("phone", "alice", "w", 100.1)
    tally.rang("phone", "alice", "w", 109.0)
    tally.rang("phone", "alice", "w", 109.5)
    tally.outcome("w", "acked", 109.0)
    wakes = tally.wakes()
    assert (wakes.duplicates, wakes.missing) == (2, Missing(0, 0, 1, 0))
    assert wakes.app.max == 100.0


def test_a_repetition_about_which_an_app_is_silent_is_right(tally: Tally) -> None:
    tally.rang("phone", "alice", "w", 100.1)
    tally.repeated()
    tally.outcome("w", "acked", 102.2)
    assert (tally.wakes().repeats, tally.wakes().duplicates) == (1, 0)
    assert told(tally) is None


def test_a_ring_at_another_users_app_is_wrong_and_no_receipt(tally: Tally) -> None:
    tally.rang("phone", "mallory", "w", 100.1)
    tally.outcome("w", "acked", 100.2)
    wakes = tally.wakes()
    assert (wakes.received, wakes.missing) == (0, Missing(0, 1, 0, 1))


@pytest.mark.parametrize("wake_id", ["unknown", None, 7])
def test_a_ring_for_another_fleets_wake_is_foreign(tally: Tally, wake_id: object) -> None:
    tally.rang("phone", "alice", wake_id, 100.1)
    tally.outcome("unknown", "acked", 100.1)
    assert (tally.wakes().foreign, tally.wakes().received, tally.wakes().made) == (1, 0, 1)


def test_a_log_out_drops_the_wakes_of_its_device_that_have_no_fate(tally: Tally) -> None:
    tally.made("sent", "kitchen", "alice", 100.0)
    tally.made("other", "hall", "bob", 100.0)
    tally.outcome("sent", "sent", 100.1)
    tally.logged_out("kitchen")
    fates = tally.wakes().fates
    assert (fates["dropped"], fates["sent"], fates["none"]) == (1, 1, 1)
    tally.outcome("w", "acked", 100.2)
    assert tally.wakes().fates["dropped"] == 0, "the last word counts"


def test_a_word_in_standby_makes_no_wake(tally: Tally) -> None:
    tally.ignored()
    assert (tally.wakes().ignored, tally.wakes().made) == (1, 1)


def test_a_wake_is_unsettled_while_it_lives_and_its_fate_may_change(tally: Tally) -> None:
    statuses: list[OutcomeStatus] = ["user_not_connected", "sent"]
    assert tally.unsettled(100.1) == 1
    for status in statuses:
        tally.outcome("w", status, 100.1)
        assert tally.unsettled(109.9) == 1
    assert tally.unsettled(110.0) == 0
    tally.outcome("w", "acked", 100.2)
    assert tally.unsettled(100.2) == 0


def test_what_is_forgotten_stays_in_the_sum(tally: Tally) -> None:
    tally.made("bad", "kitchen", "alice", 100.0)
    tally.made("young", "kitchen", "alice", 108.0)
    tally.rang("phone", "alice", "w", 100.1)
    tally.rang("phone", "alice", "w", 100.1)
    tally.outcome("w", "acked", 100.1)
    before = tally.wakes()
    tally.forget(100.0 + LIFE_S + KEPT_FOR_S - 0.1)
    assert len(tally._wakes) == 3
    tally.forget(100.0 + LIFE_S + KEPT_FOR_S)
    assert set(tally._wakes) == {"young"}
    assert tally.wakes() == before
    assert before.missing == Missing(2, 0, 1, 0)
