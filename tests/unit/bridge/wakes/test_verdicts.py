from bridge.wakes.verdicts import (
    ANSWERS_S,
    JUDGE_AFTER_S,
    NEXT_RANK_S,
    REMEMBERED_S,
    SEEK_AFTER_S,
    Remembered,
    Verdicts,
)
from contract.messages import Wake

DEVICE = "jetson"


def wake(wake_id: str, uid: str = "alice", **more: int) -> Wake:
    return Wake(id=wake_id, uid=uid, command="c", timestamp="t", **more)


def first(_name: str) -> int:
    return 0


def ids(verdicts: Verdicts, now: float, fresh_since: float = 1e9) -> tuple[list[str], list[str]]:
    seek, judge = verdicts.due(now, fresh_since)
    return [one.wake_id for one in seek], [one.wake_id for one in judge]


def in_time(verdicts: Verdicts, now: float, fresh_since: float = 1e9) -> tuple[list[str], list[str]]:
    """What is asked for now, and what is judged when others have had time to answer."""
    seek, judge = ids(verdicts, now, fresh_since)
    assert judge == []
    return seek, ids(verdicts, now + ANSWERS_S, fresh_since)[1]


def test_a_bridge_that_stood_still_asks_before_it_judges() -> None:
    """Both are due when it goes on, and what others said meanwhile is not read yet."""
    verdicts = Verdicts(first)
    verdicts.came(DEVICE, wake("w"), 100.0, waits=True)
    verdicts.came(DEVICE, wake("answered"), 100.0, waits=True)
    assert ids(verdicts, 103.0) == (["w", "answered"], [])
    verdicts.heard(DEVICE, "answered", "sent", 103.1)
    assert ids(verdicts, 103.0 + ANSWERS_S - 0.01) == ([], [])
    assert ids(verdicts, 103.0 + ANSWERS_S) == ([], ["w"])


def test_others_are_asked_again_over_a_new_connection_before_anything_bad_is_said() -> None:
    verdicts = Verdicts(first)
    verdicts.came(DEVICE, wake("w"), 100.0, waits=True)
    assert verdicts.due(100.2, 1e9, 90.0)[0][0].wake_id == "w"
    none: tuple[list[Remembered], list[Remembered]] = ([], [])
    assert verdicts.due(100.6, 1e9, float("inf")) == none, "what it asked may be lost"
    seek, judge = verdicts.due(101.0, 1e9, 100.9)
    assert ([one.wake_id for one in seek], judge) == (["w"], [])
    assert verdicts.due(101.2, 1e9, 100.9) == none
    assert [one.wake_id for one in verdicts.due(101.5, 1e9, 100.9)[1]] == ["w"]


def test_each_rank_asks_and_judges_a_quarter_of_a_second_later() -> None:
    for rank in range(3):
        verdicts = Verdicts(lambda _name, rank=rank: rank)  # type: ignore[misc]
        verdicts.came(DEVICE, wake("w"), 100.0, waits=True)
        asks, judges = 100 + SEEK_AFTER_S + rank * NEXT_RANK_S, 100 + JUDGE_AFTER_S + rank * NEXT_RANK_S
        assert ids(verdicts, asks - 0.01) == ([], [])
        assert ids(verdicts, asks + 0.01) == (["w"], [])
        assert ids(verdicts, judges - 0.01) == ([], [])
        assert ids(verdicts, judges + 0.01) == ([], ["w"])
        assert ids(verdicts, 200.0) == ([], [])


def test_a_word_of_another_ends_the_waiting_also_one_that_came_before_the_wake() -> None:
    verdicts = Verdicts(first)
    verdicts.came(DEVICE, wake("after"), 100.0, waits=True)
    verdicts.heard(DEVICE, "after", "sent", 100.1)
    verdicts.heard(DEVICE, "before", "sent", 100.1)
    verdicts.came(DEVICE, wake("before"), 105.0, waits=True)
    assert ids(verdicts, 106.0) == ([], [])
    assert [one.wake_id for one in verdicts.living_of("alice", 106.0)] == ["after", "before"]


def test_a_word_for_another_device_counts_for_nothing() -> None:
    verdicts = Verdicts(first)
    verdicts.came(DEVICE, wake("w"), 100.0, waits=True)
    verdicts.heard("other", "w", "acked", 100.1)
    assert in_time(verdicts, 101.0) == (["w"], ["w"])


def test_a_device_that_repeats_a_wake_has_not_heard_the_word() -> None:
    verdicts = Verdicts(first)
    verdicts.came(DEVICE, wake("w"), 100.0, waits=True)
    verdicts.heard(DEVICE, "w", "sent", 100.1)
    verdicts.came(DEVICE, wake("w"), 101.0, waits=True)  # the broker delivered it twice
    assert ids(verdicts, 102.0) == ([], [])
    verdicts.came(DEVICE, wake("w", age_ms=2000), 102.0, waits=True)
    assert in_time(verdicts, 103.0) == (["w"], ["w"])


def test_a_repetition_says_how_old_a_wake_is_that_the_broker_held() -> None:
    verdicts = Verdicts(first)
    verdicts.came(DEVICE, wake("w"), 100.0, waits=True)
    one = verdicts.came(DEVICE, wake("w", age_ms=9000), 100.5, waits=True)
    assert (one.age_ms(100.5), one.expires_at) == (9000, 101.5)


def test_no_bad_word_is_said_before_the_view_is_as_new_as_the_wake() -> None:
    verdicts = Verdicts(first)
    verdicts.came(DEVICE, wake("w"), 100.0, waits=True)
    assert ids(verdicts, 101.0, fresh_since=99.9) == (["w"], [])
    assert ids(verdicts, 101.3, fresh_since=100.1) == ([], ["w"])


def test_a_view_that_stays_old_leaves_the_wake_to_others() -> None:
    verdicts = Verdicts(first)
    verdicts.came(DEVICE, wake("w"), 100.0, waits=True)
    for tenths in range(200):
        assert ids(verdicts, 101.0 + tenths / 10, fresh_since=99.9)[1] == []
    assert verdicts.next_at() is None


def test_a_living_wake_is_remembered_however_many_come_after_it() -> None:
    verdicts = Verdicts(first)
    verdicts.came(DEVICE, wake("first"), 100.0, waits=True)
    for number in range(15_000):
        at = 100.0 + number / 3000
        verdicts.came(DEVICE, wake(f"w{number}"), at, waits=True)
        verdicts.heard(DEVICE, f"w{number}", "acked", at)
    one = verdicts.came(DEVICE, wake("first", age_ms=5000), 105.0, waits=True)
    assert one.came_at == 100.0


def test_what_is_over_is_forgotten() -> None:
    verdicts = Verdicts(first)
    verdicts.came(DEVICE, wake("short"), 100.0, waits=True)
    verdicts.came(DEVICE, wake("long", ttl_ms=60_000), 100.0, waits=True)
    verdicts.heard(DEVICE, "word", "sent", 100.0)
    verdicts.due(100.0 + REMEMBERED_S, 1e9)
    assert (verdicts.known("short"), verdicts.known("word"), len(verdicts)) == (None, None, 1)
    verdicts.due(100.0 + REMEMBERED_S + 60, 1e9)
    assert len(verdicts) == 0
    assert verdicts.living_of("alice", 0.0) == []


def test_beyond_the_bound_the_oldest_texts_go_and_the_wakes_stay_known() -> None:
    verdicts = Verdicts(first, max_bytes=10_000)
    for number in range(100):
        verdicts.came(DEVICE, wake(f"w{number}", uid=f"u{number}"), 100.0, waits=True)
    assert len(verdicts.living_of("u0", 100.0)) == 1, "it is new"
    verdicts.due(100.0 + SEEK_AFTER_S, 0.0)
    assert verdicts._bytes <= 10_000
    assert len(verdicts) == 100
    assert verdicts.living_of("u0", 100.0) == []
    assert len(verdicts.living_of("u99", 100.0)) == 1
    for number in range(100):
        verdicts.left(f"u{number}")
    assert (verdicts._bytes, verdicts._living) == (0, {})
