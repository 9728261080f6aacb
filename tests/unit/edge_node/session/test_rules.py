from itertools import count
from typing import Any

import pytest

from contract.messages import MAX_COUNT, MAX_REPORTED, Login, Logout
from edge_node.session.rules import ENDED_KEPT, Decision, EdgeSession, EdgeState, Held

LEASE_S = 3720.0


def edge(state: EdgeState | None = None, uid: str | None = "alice", now: float = 0.0) -> EdgeSession:
    ids = count(1)
    return EdgeSession(state or EdgeState("i", boot=1), uid, now, new_id=lambda: f"n{next(ids)}", jitter=lambda: 0.5)


def grant(nonce: str | None, session_id: str = "s1", **changes: Any) -> Login:
    return Login.model_validate(
        {
            "id": "m",
            "uid": "alice",
            "session_id": session_id,
            "generation": 1,
            "lease_s": LEASE_S,
            "re": nonce,
            **changes,
        }
    )


def say_hello(it: EdgeSession, now: float) -> str:
    return it.hello(now, version="v", model="m").nonce


def logged_in(now: float = 0.0, session_id: str = "s1") -> EdgeSession:
    it = edge(now=now)
    it.connected(now)
    it.login(grant(say_hello(it, now), session_id), now)
    return it


def test_it_starts_in_standby_and_claims_its_configured_user() -> None:
    it = edge()
    assert (it.active_uid, it.mode) == (None, "standby")
    hello = it.hello(0, version="v", model="m")
    assert (hello.claim_uid, hello.session_id, hello.boot) == ("alice", None, 1)


def told(boot: int, seq: int, install_id: str = "i") -> Login:
    return Login(id="m", uid="-", re=install_id, boot=boot, seq=seq)


def test_numbers_that_this_run_has_not_said_are_gone_beyond_and_stored() -> None:
    held = Held("s1", "alice", LEASE_S)
    it = edge(EdgeState("i", boot=3, generation=2, held=held))
    it.connected(0)
    say_hello(it, 0)
    decision = it.login(told(200, 7), 1)
    assert decision.renumbered
    assert decision.save == EdgeState("i", boot=201, generation=2, held=held)
    assert it.active_uid is None, "a number is no grant"
    assert it.login(told(200, 7), 2) == Decision()
    assert it.hello(2, version="v", model="m").boot == 201


def test_a_machine_set_back_within_a_boot_goes_beyond_and_keeps_its_session() -> None:
    it = logged_in()
    assert it.login(told(1, 60), 1).renumbered
    assert it.active_uid == "alice"
    assert it.state.boot == 2


@pytest.mark.parametrize("numbers", [told(1, 1), told(1, 2), told(0, 90), told(200, 1, "another")])
def test_numbers_that_this_run_has_said_itself_are_no_news(numbers: Login) -> None:
    it = edge()
    it.connected(0)
    say_hello(it, 0)
    nonce = say_hello(it, 1)
    assert it.login(numbers, 1) == Decision()
    assert it.state.boot == 1
    assert it.login(grant(nonce), 1).began == "alice"


def test_beyond_the_greatest_number_begins_another_installation() -> None:
    it = edge()
    decision = it.login(told(MAX_COUNT, 1), 0)
    assert decision.save is not None
    assert (decision.save.install_id != "i", decision.save.boot) == (True, 1)
    assert it.hello(0, version="v", model="m").encode()


def test_a_number_that_could_not_be_stored_is_not_so() -> None:
    it = edge()
    it.login(told(200, 7), 1)
    it.suspend()
    assert it.state.boot == 1


def test_a_grant_that_answers_the_hello_logs_in_and_is_stored() -> None:
    it = edge()
    decision = it.login(grant(say_hello(it, 0)), 0)
    assert decision.began == "alice"
    assert decision.save is not None
    assert decision.save.held == Held("s1", "alice", LEASE_S)
    assert it.active_uid == "alice"


@pytest.mark.parametrize("nonce", ["another", "n0"])
def test_a_grant_that_answers_another_hello_counts_for_nothing(nonce: str) -> None:
    it = edge()
    it.connected(0)
    say_hello(it, 0)
    assert it.login(grant(nonce), 0).save is None
    assert it.active_uid is None


def test_a_nonce_is_good_for_one_grant() -> None:
    it = edge()
    nonce = say_hello(it, 0)
    it.login(grant(nonce), 0)
    it.logout(Logout(uid="alice", session_id="s1"), 1)
    assert it.login(grant(nonce, "s2"), 1).began is None


def test_a_grant_for_an_ended_session_counts_for_nothing() -> None:
    it = logged_in()
    it.logout(Logout(uid="alice", session_id="s1"), 1)
    assert it.login(grant(say_hello(it, 2)), 2).began is None
    assert it.active_uid is None


def test_a_login_delayed_beyond_the_lease_counts_for_nothing() -> None:
    it = edge()
    nonce = say_hello(it, 0)
    assert it.login(grant(nonce, lease_s=10.0), 10.0).began is None


def test_the_lease_runs_from_the_hello_not_from_its_answer() -> None:
    it = edge()
    nonce = say_hello(it, 0)
    it.login(grant(nonce, lease_s=10.0), 9.0)
    assert it.tick(9.9).ended is None
    assert it.tick(10.0).ended == "lapsed"
    assert it.active_uid is None


def test_a_renewal_moves_the_lease_and_begins_nothing() -> None:
    it = logged_in()
    decision = it.login(grant(say_hello(it, 3000)), 3000)
    assert (decision.began, decision.ended) == (None, None)
    assert it.tick(LEASE_S + 1).ended is None
    assert it.tick(3000 + LEASE_S).ended == "lapsed"


def test_a_new_session_ends_the_held_one_in_the_same_write() -> None:
    it = logged_in()
    decision = it.login(grant(say_hello(it, 1), "s2", uid="bob"), 1)
    assert (decision.ended, decision.began) == ("replaced", "bob")
    assert decision.save is not None
    assert [(e.session_id, e.reason) for e in decision.save.ended] == [("s1", "replaced")]


def test_a_log_out_is_done_once_and_a_duplicate_afterwards() -> None:
    it = logged_in()
    logout = Logout(id="c", uid="alice", session_id="s1")
    first = it.logout(logout, 1)
    assert (first.ended, first.ack) == ("done", ("c", "done"))
    second = it.logout(logout, 2)
    assert (second.ended, second.save, second.ack) == (None, None, ("c", "duplicate"))


def test_a_log_out_that_comes_before_its_login_wins() -> None:
    it = edge()
    nonce = say_hello(it, 0)
    assert it.logout(Logout(id="c", uid="alice", session_id="s1"), 0).ack == ("c", "duplicate")
    assert it.login(grant(nonce, "s1"), 1).began is None
    assert it.active_uid is None


def test_a_log_out_of_another_session_leaves_the_held_one() -> None:
    it = logged_in()
    it.logout(Logout(uid="alice", session_id="s0"), 1)
    assert it.active_uid == "alice"


def test_the_documented_log_out_names_only_the_user() -> None:
    it = logged_in()
    assert it.logout(Logout(id="c", uid="bob"), 1).ack == ("c", "refused")
    assert it.active_uid == "alice"
    assert it.logout(Logout(id="d", uid="alice"), 1).ack == ("d", "done")
    assert it.active_uid is None


def test_the_documented_log_out_also_withdraws_the_claim() -> None:
    it = logged_in()
    it.logout(Logout(uid="alice"), 1)
    assert it.hello(1, version="v", model="m").claim_uid is None


def test_the_ledgers_log_out_leaves_the_claim_for_the_users_return() -> None:
    it = logged_in()
    it.logout(Logout(uid="alice", session_id="s1"), 1)
    assert it.hello(1, version="v", model="m").claim_uid == "alice"


def test_after_a_restart_it_is_suspended_until_a_grant() -> None:
    it = edge(EdgeState("i", boot=2, held=Held("s1", "alice", LEASE_S)), now=50)
    assert it.active_uid is None
    decision = it.login(grant(say_hello(it, 51)), 51)
    assert decision.began == "alice"


def test_after_a_restart_an_unrenewed_session_lapses_after_its_last_lease() -> None:
    it = edge(EdgeState("i", boot=2, held=Held("s1", "alice", 100.0)), now=50)
    assert it.tick(149).ended is None
    decision = it.tick(150)
    assert decision.ended == "lapsed"
    assert decision.save is not None
    assert decision.save.held is None


def test_a_local_log_out_of_another_user_changes_nothing() -> None:
    it = logged_in()
    assert it.local_logout("bob", 1) is None
    assert it.active_uid == "alice"


def test_a_local_log_out_ends_the_session_and_its_claim() -> None:
    it = logged_in()
    decision = it.local_logout("alice", 1)
    assert decision is not None
    assert decision.ended == "local"
    assert it.hello(1, version="v", model="m").claim_uid is None


def test_what_could_not_be_stored_is_not_reported_and_the_device_is_off() -> None:
    it = logged_in()
    it.stored()
    it.logout(Logout(uid="alice", session_id="s1"), 1)
    it.suspend()
    assert it.active_uid is None
    report = it.hello(2, version="v", model="m")
    assert (report.session_id, report.ended) == ("s1", ())
    again = it.logout(Logout(id="c", uid="alice", session_id="s1"), 3)
    assert (again.ended, again.ack) == ("done", ("c", "done"))


def test_a_grant_that_could_not_be_stored_logs_no_user_in() -> None:
    it = edge()
    it.login(grant(say_hello(it, 0)), 0)
    it.suspend()
    assert it.active_uid is None
    assert it.hello(1, version="v", model="m").session_id is None


def test_a_poke_asks_for_a_hello() -> None:
    it = logged_in()
    assert not it.hello_due(1)
    it.login(grant(None), 1)
    assert it.hello_due(1)


def test_hello_is_said_at_connect_and_well_before_the_lease_is_over() -> None:
    it = logged_in()
    assert not it.hello_due(299)
    assert it.hello_due(300)
    short = edge()
    short.login(grant(say_hello(short, 0), lease_s=90.0), 0)
    short.connected(0)
    assert short.hello_due(0)


def test_an_unanswered_hello_is_said_again_ever_more_rarely() -> None:
    it = edge()
    it.connected(0)
    now, gaps = 0.0, []
    for _ in range(12):
        say_hello(it, now)
        later = next(second for second in range(1000) if it.hello_due(now + second))
        gaps.append(later)
        now += later
    assert gaps == sorted(gaps)
    assert gaps[-1] <= 300


def test_a_slow_bridge_does_not_get_the_more_hellos_the_slower_it_is() -> None:
    """Each answer takes 5 s, longer than the device waits at first; it must not be asked twice a second for that."""
    it = edge()
    it.connected(0)
    under_way: list[tuple[float, str]] = []
    said = 0
    for tenth in range(600):
        now = tenth / 10
        if it.hello_due(now):
            said += 1
            under_way.append((now + 5, say_hello(it, now)))
        while under_way and under_way[0][0] <= now:
            it.login(grant(under_way.pop(0)[1]), now)
    assert it.active_uid == "alice"
    assert said <= 4


def test_the_same_answer_from_a_second_bridge_asks_for_nothing() -> None:
    it = edge()
    it.connected(0)
    nonce = say_hello(it, 0)
    it.login(grant(nonce), 1)
    it.login(grant(nonce), 2)
    assert not it.hello_due(60)
    it.login(grant(nonce, "s2"), 61)
    assert it.hello_due(62), "another session is news"


def test_an_answer_whose_lease_is_over_or_whose_session_has_ended_is_told_at_once() -> None:
    it = edge()
    it.connected(0)
    it.login(grant(say_hello(it, 0), lease_s=5.0), 6)
    assert it.hello_due(7)
    it.login(grant(say_hello(it, 7)), 7)
    it.logout(Logout(id="c", uid="alice", session_id="s1"), 8)
    it.login(grant(say_hello(it, 8)), 9)
    assert it.hello_due(10)


def test_without_a_connection_no_hello_is_due() -> None:
    it = edge()
    it.connected(0)
    it.disconnected()
    assert not it.hello_due(1e9)


def test_the_bridges_birth_is_answered_within_ten_seconds() -> None:
    it = logged_in()
    it.bridge_born(1)
    assert not it.hello_due(1)
    assert it.hello_due(11)


def test_what_was_said_later_has_a_higher_number() -> None:
    it = edge()
    numbers = [it.next_seq(), it.hello(0, version="", model="").seq, it.ack("c", "done").seq]
    assert numbers == sorted(set(numbers))


def test_only_the_last_ended_sessions_are_remembered() -> None:
    it = edge()
    for number in range(20):
        it.logout(Logout(uid="alice", session_id=f"s{number}"), 0)
    assert [entry.session_id for entry in it.state.ended] == [f"s{n}" for n in range(20 - ENDED_KEPT, 20)]


def test_a_command_with_an_absurd_generation_does_not_make_reports_impossible() -> None:
    it = edge()
    it.logout(Logout(uid="x", session_id="s", generation=2**53), 0.0)
    assert it.hello(1.0, version="", model="").generation == MAX_REPORTED
