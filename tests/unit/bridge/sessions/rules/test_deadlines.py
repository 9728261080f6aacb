from hypothesis import given
from hypothesis import strategies as st

from bridge.sessions.rules.deadlines import Deadlines, ServiceTime

UIDS = st.sampled_from(["a", "b", "c"])
STEPS = st.one_of(
    st.tuples(st.just("put"), UIDS, st.integers(1, 50)),
    st.tuples(st.just("raise"), UIDS, st.integers(1, 50)),
    st.tuples(st.just("remove"), UIDS, st.just(0)),
    st.tuples(st.just("sweep"), st.just(""), st.integers(0, 20)),
)


@given(steps=st.lists(STEPS, max_size=60))
def test_deadlines_behave_like_a_plain_table(steps: list[tuple[str, str, int]]) -> None:
    deadlines, table, now = Deadlines(), dict[str, float](), 0.0
    for step, uid, number in steps:
        if step == "put":
            deadlines.put(uid, now + number)
            table[uid] = now + number
        elif step == "raise":
            deadlines.raise_to(uid, now + number)
            table[uid] = max(table.get(uid, 0.0), now + number)
        elif step == "remove":
            assert deadlines.remove(uid) == table.pop(uid, None)
        else:
            now += number
            popped = deadlines.pop_due(now)
            assert all(at == table[uid] for uid, at in popped)
            due = [uid for uid, _ in popped]
            assert sorted(due) == sorted(uid for uid, at in table.items() if at <= now)
            assert [table[uid] for uid in due] == sorted(table[uid] for uid in due), "oldest first"
            table = {uid: at for uid, at in table.items() if uid not in due}
        assert {uid: deadlines.get(uid) for uid in deadlines} == table
        assert len(deadlines) == len(table)


@given(rounds=st.integers(1, 200))
def test_a_user_who_logs_in_and_out_for_ever_costs_nothing(rounds: int) -> None:
    deadlines = Deadlines()
    for number in range(rounds):
        deadlines.raise_to("a", 3600.0 + number)
        deadlines.remove("a")
        deadlines.raise_to("a", 3600.0 + number)
    assert len(deadlines._heap) == 1


def test_a_heartbeat_moves_the_deadline() -> None:
    deadlines = Deadlines()
    deadlines.raise_to("alice", 10)
    deadlines.raise_to("alice", 20)
    assert deadlines.pop_due(19.9) == []
    assert deadlines.pop_due(20) == [("alice", 20)]


def test_an_earlier_deadline_takes_nothing_away() -> None:
    deadlines = Deadlines()
    deadlines.raise_to("alice", 20)
    deadlines.raise_to("alice", 10)
    assert deadlines.get("alice") == 20


def test_a_sweep_with_nothing_due_looks_at_one_entry_of_many() -> None:
    deadlines = Deadlines()
    for number in range(10_000):
        deadlines.raise_to(str(number), 100.0 + number)
    before = list(deadlines._heap)
    assert deadlines.pop_due(99.0) == []
    assert deadlines._heap == before


def test_a_sweep_may_be_told_how_many_at_the_most() -> None:
    deadlines = Deadlines()
    for number in range(5):
        deadlines.raise_to(str(number), float(number))
    assert [uid for uid, _ in deadlines.pop_due(9, most=2)] == ["0", "1"]
    assert [uid for uid, _ in deadlines.pop_due(9, most=9)] == ["2", "3", "4"]


@given(steps=st.lists(st.tuples(st.floats(-1e9, 1e9, allow_nan=False), st.booleans()), max_size=50))
def test_service_time_never_goes_back_nor_leaps(steps: list[tuple[float, bool]]) -> None:
    time = ServiceTime(0.0)
    monotonic = kept = last = 0.0
    for step, stored in steps:
        monotonic += step
        now = time.read(monotonic)
        assert kept <= now <= kept + 2.0 + 1e-6
        if stored:
            assert now >= last or step < 0
            time.keep(now, monotonic)
            kept = now
        last = now


def test_an_hour_of_sleep_counts_as_two_seconds() -> None:
    time = ServiceTime(100.0)
    time.keep(time.read(101.0), 101.0)
    assert time.read(3701.0) == 3.0


def test_time_stands_still_while_it_cannot_be_stored() -> None:
    time = ServiceTime(100.0)
    assert [time.read(mono) for mono in (101.0, 102.0, 103.0, 4000.0)] == [1.0, 2.0, 2.0, 2.0]


# --- service time as one of several bridges knows it ---


def test_service_time_is_exact_for_who_alone_advances_it() -> None:
    time = ServiceTime(100.0, 5.0)
    assert (time.read(101.5), time.latest(101.5)) == (6.5, 6.5)
    assert (time.read(1000.0), time.latest(1000.0)) == (7.0, 7.0)


def test_the_upper_bound_runs_on_and_counts_a_step_of_another() -> None:
    time = ServiceTime(100.0, 5.0, alone=False)
    assert (time.read(101.0), time.latest(101.0)) == (6.0, 8.0)
    assert (time.read(130.0), time.latest(130.0)) == (7.0, 37.0)


def test_a_look_counts_from_its_question_above_and_from_its_answer_below() -> None:
    time = ServiceTime(100.0, 5.0, alone=False)
    time.seen(9.0, sent_at=104.0, arrived_at=107.0)
    assert (time.read(108.0), time.latest(108.0)) == (10.0, 15.0)


def test_an_unchanged_row_narrows_the_upper_bound_and_leaves_the_lower_one() -> None:
    time = ServiceTime(100.0, 5.0, alone=False)
    time.seen(5.0, sent_at=104.0, arrived_at=105.0)
    assert (time.read(101.0), time.read(105.0), time.latest(105.0)) == (6.0, 7.0, 8.0)


def test_a_late_answer_changes_nothing() -> None:
    time = ServiceTime(100.0, 5.0, alone=False)
    time.keep(7.0, 102.0)
    time.seen(6.0, sent_at=101.0, arrived_at=103.0)
    time.seen(7.0, sent_at=101.0, arrived_at=103.0)
    assert (time.read(103.0), time.latest(103.0)) == (8.0, 10.0)
