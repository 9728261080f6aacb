"""Rules T1 to T4: whom silence logs out, and when. T is 60 s, Q (the promise reaches further) 10 s, the grace 20 s."""

from collections.abc import Iterable

import pytest

from bridge.sessions.rules.liveness import Liveness
from bridge.storage.records import DurableDeadline
from infra.settings.bridge import BridgeSettings
from tests.support.clock import ManualClock

T, Q, GRACE, RESTART, SPREAD = 60.0, 10.0, 20.0, 15.0, 6.0
JITTER = 0.5
FLOOR = RESTART + SPREAD * JITTER
SETTINGS = BridgeSettings(
    heartbeat_timeout_s=T,
    heartbeat_coalesce_s=Q,
    lease_grace_s=GRACE,
    restart_grace_s=RESTART,
    expiry_spread_s=SPREAD,
)


class Service:
    """A Liveness whose clock and disk work; it may be restarted and goes on with what is on its disk."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.seconds = 0.0
        self.disk: dict[str, DurableDeadline] = {}
        self.departed: dict[str, float] = {}
        self.gone: dict[str, float] = {}
        self.start()

    def start(self, *, holders: Iterable[str] = (), restored: bool = False) -> list[DurableDeadline]:
        self.people = Liveness(SETTINGS, self.clock, jitter=lambda: JITTER)
        raised = self.people.load(self.seconds, list(self.disk.values()), holders, self.departed, restored=restored)
        self.disk.update({promise.uid: promise for promise in raised})
        return raised

    def live(self, seconds: float) -> None:
        """Time passes as the service keeps it: each second on disk, then those who are due."""
        for _ in range(round(seconds)):
            self.clock.advance(1)
            mono = self.clock.monotonic()
            self.seconds = self.people.now_at(mono)
            self.people.kept(self.seconds, mono)
            for uid in self.people.mark_due_leaving(100):
                self.gone[uid] = self.seconds
                self.people.left(uid)
                del self.disk[uid]
                self.departed[uid] = self.seconds

    def beat(self, uid: str = "alice") -> None:
        """A heartbeat, answered after its promise is on disk."""
        self.people.touch(uid)
        if not self.people.covered(uid):
            promise = self.people.promise(uid)
            self.disk[uid] = promise
            self.people.promised(promise)


@pytest.fixture
def service() -> Service:
    return Service()


# --- T1: service time ---


def test_time_that_is_not_kept_on_disk_does_not_count(service: Service) -> None:
    service.beat()
    service.clock.advance(10 * T)
    assert service.people.now() == 2.0
    assert service.people.mark_due_leaving(100) == {}


def test_an_hour_asleep_counts_as_two_seconds(service: Service) -> None:
    service.beat()
    service.live(10)
    service.clock.advance(3600)
    service.live(1)
    assert service.seconds == 12.0


def test_a_stopped_service_counts_nothing(service: Service) -> None:
    service.beat()
    service.live(10)
    service.clock.advance(3600)
    service.start()
    assert service.people.now() == 10.0


def test_after_a_restart_a_user_gets_time_to_come_back(service: Service) -> None:
    service.beat()
    service.live(T - 1)
    (raised,) = service.start()
    assert raised == DurableDeadline("alice", T - 1 + FLOOR, floored=True)
    service.live(FLOOR - 1)
    assert service.people.alive("alice")
    service.live(1)
    assert service.gone == {"alice": T - 1 + FLOOR}


def test_a_promise_that_lies_behind_that_time_is_left_as_it_is(service: Service) -> None:
    service.beat()
    assert service.start() == []
    service.live(T + Q)
    assert service.gone == {"alice": T + Q}


def test_who_holds_a_session_without_a_promise_gets_that_time_too(service: Service) -> None:
    assert service.start(holders=["alice"]) == [DurableDeadline("alice", FLOOR, floored=True)]
    service.live(FLOOR)
    assert service.gone == {"alice": FLOOR}


def test_that_time_is_given_once_between_two_heartbeats(service: Service) -> None:
    service.beat()
    service.live(T - 1)
    service.start()
    service.live(FLOOR - 1)
    assert service.start() == []
    service.live(1)
    assert service.gone == {"alice": T - 1 + FLOOR}


def test_a_crash_loop_lets_people_go_in_the_end(service: Service) -> None:
    service.beat()
    for _ in range(100):
        service.start()
        service.live(1)
    assert T + Q <= service.gone["alice"] <= T + Q + FLOOR
    assert service.disk == {}


def test_a_heartbeat_earns_that_time_again(service: Service) -> None:
    service.beat()
    service.live(T - 1)
    service.start()
    service.beat()
    assert service.disk["alice"] == DurableDeadline("alice", T - 1 + T + Q)
    service.live(T - 1)
    (raised,) = service.start()
    assert raised == DurableDeadline("alice", 2 * (T - 1) + FLOOR, floored=True)


def test_a_floor_covers_no_heartbeat(service: Service) -> None:
    service.beat()
    service.live(T - 1)
    service.start()
    service.people.touch("alice")
    assert not service.people.covered("alice")


# --- T2: promises ---


def test_a_heartbeat_is_covered_while_the_durable_deadline_exceeds_the_time_out(service: Service) -> None:
    assert not service.people.covered("alice")
    service.beat()
    assert service.people.covered("alice")
    service.live(Q)
    assert service.people.covered("alice")
    service.live(1)
    assert not service.people.covered("alice")


def test_what_was_not_written_covers_nothing(service: Service) -> None:
    service.people.touch("alice")
    assert service.people.promise("alice") == DurableDeadline("alice", T + Q)
    assert not service.people.covered("alice")


def test_a_promise_is_only_ever_raised(service: Service) -> None:
    service.disk["alice"] = DurableDeadline("alice", 1000.0)
    service.start()
    assert service.people.promise("alice") == DurableDeadline("alice", 1000.0)
    service.people.touch("alice")
    assert service.people.covered("alice")


@pytest.mark.parametrize("after", range(0, round(T), 7))
def test_a_restart_logs_no_user_out_within_a_time_out_of_an_answered_heartbeat(service: Service, after: int) -> None:
    service.beat()
    service.live(Q - 1)
    service.beat()
    answered = service.seconds
    service.live(after)
    service.start()
    service.live(answered + T - service.seconds - 1)
    assert service.gone == {}


# --- T3: when ---


def test_a_user_expires_exactly_one_time_out_after_this_runs_last_heartbeat(service: Service) -> None:
    service.beat()
    service.live(7)
    service.beat()
    service.live(T - 1)
    assert service.gone == {}
    service.live(1)
    assert service.gone == {"alice": 7 + T}


def test_after_a_restart_it_is_over_at_the_promise(service: Service) -> None:
    service.beat()
    service.live(7)
    service.beat()
    service.live(7)
    service.start()
    service.live(T + Q - 14 - 1)
    assert service.gone == {}
    service.live(1)
    assert service.gone == {"alice": T + Q}


def test_after_a_restart_and_a_heartbeat_it_is_over_by_memory_again(service: Service) -> None:
    service.beat()
    service.start()
    service.live(7)
    service.beat()
    service.live(T)
    assert service.gone == {"alice": 7 + T}


def test_a_heartbeat_after_a_restart_never_moves_the_end_before_an_earlier_promise(
    service: Service,
) -> None:
    service.disk["alice"] = DurableDeadline("alice", 100.0)
    service.start()
    service.beat()
    service.live(100 - Q)
    assert service.gone == {"alice": 100 - Q}


def test_those_who_are_due_come_oldest_first_and_at_most_so_many(service: Service) -> None:
    service.seconds = 100.0
    service.disk = {uid: DurableDeadline(uid, number, floored=True) for number, uid in enumerate("abc")}
    service.start()
    assert service.people.mark_due_leaving(2) == {"a": 0.0, "b": 1.0}
    assert service.people.mark_due_leaving(2) == {"c": 2.0}


def test_who_was_taken_counts_as_dead_and_lives_again_when_it_could_not_be_stored(service: Service) -> None:
    service.beat()
    deadline = service.people.mark_leaving("alice")
    assert deadline == T
    assert not service.people.alive("alice")
    service.people.undo_leaving("alice", deadline)
    assert service.people.alive("alice")
    service.live(T)
    assert service.gone == {"alice": T}


def test_who_was_due_and_put_back_is_due_again(service: Service) -> None:
    service.disk["alice"] = DurableDeadline("alice", 3.0, floored=True)
    service.start()
    service.clock.advance(2)
    service.people.kept(4.0, service.clock.monotonic())
    for _ in range(3):
        due = service.people.mark_due_leaving(100)
        assert due == {"alice": 3.0}
        service.people.undo_leaving("alice", due["alice"])


def test_a_heartbeat_that_came_while_the_log_out_failed_to_be_stored_counts(service: Service) -> None:
    service.beat()
    deadline = service.people.mark_leaving("alice")
    assert deadline is not None
    service.live(10)
    service.beat()
    service.people.undo_leaving("alice", deadline)
    service.live(T)
    assert service.gone == {"alice": 10 + T}


def test_who_left_is_promised_nothing_and_adopted_nowhere_for_a_while(service: Service) -> None:
    service.beat()
    assert service.people.may_adopt("alice")
    service.people.left("alice")
    assert not service.people.alive("alice")
    assert not service.people.covered("alice")
    assert service.people.lease_s("alice") == 0.0
    assert not service.people.may_adopt("alice")
    service.live(T)
    service.people.forget_long_departed()
    assert service.people.may_adopt("alice")


def test_who_comes_back_has_not_left(service: Service) -> None:
    service.beat()
    service.people.left("alice")
    service.beat()
    assert service.people.alive("alice")
    assert service.people.may_adopt("alice")


# --- T4: leases ---


def test_a_lease_is_what_is_left_of_the_promise_without_its_reach_plus_the_grace(service: Service) -> None:
    service.beat()
    assert service.people.lease_s("alice") == service.people.first_lease_s() == T + GRACE
    service.live(Q)
    service.beat()
    assert service.people.lease_s("alice") == T + GRACE - Q
    service.live(1)
    service.beat()
    assert service.people.lease_s("alice") == T + GRACE


def test_a_restart_neither_shortens_nor_lengthens_a_lease(service: Service) -> None:
    service.beat()
    service.live(30)
    before = service.people.lease_s("alice")
    service.start()
    assert service.people.lease_s("alice") == before


def test_no_lease_ends_before_its_user_does(service: Service) -> None:
    service.beat()
    service.live(Q)
    service.beat()
    end_of_lease = service.seconds + service.people.lease_s("alice")
    service.live(T)
    assert service.gone == {"alice": Q + T}
    assert end_of_lease >= service.gone["alice"]


def test_who_is_unknown_gets_no_lease(service: Service) -> None:
    assert service.people.lease_s("nobody") == 0.0


# --- B6: a restored back-up ---


def test_after_a_restored_back_up_everybody_gets_the_full_time_out(service: Service) -> None:
    service.disk = {"alice": DurableDeadline("alice", 5.0), "bob": DurableDeadline("bob", 8.0, floored=True)}
    service.seconds = 1000.0
    raised = service.start(holders=["carol"], restored=True)
    assert raised == [DurableDeadline(uid, 1000.0 + T + Q) for uid in ("alice", "bob", "carol")]
    service.live(T + Q - 1)
    assert service.gone == {}
    service.live(1)
    assert set(service.gone) == {"alice", "bob", "carol"}


def test_a_restored_back_up_shortens_no_promise(service: Service) -> None:
    service.disk["alice"] = DurableDeadline("alice", 1000.0)
    assert service.start(restored=True) == []
    assert service.people.lease_s("alice") == 1000.0 - Q + GRACE
