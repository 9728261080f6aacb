import pytest

from bridge.sessions.rules.shared_liveness import SharedLiveness, UsersInTurn
from bridge.storage.records import DurableDeadline, Lifetime
from infra.settings.bridge import BridgeSettings
from tests.support.clock import ManualClock

SETTINGS = BridgeSettings(heartbeat_timeout_s=100, heartbeat_coalesce_s=10, lease_grace_s=20)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def liveness(clock: ManualClock) -> SharedLiveness:
    """At service time 50; alice is promised to 160."""
    it = SharedLiveness(SETTINGS, clock)
    it.load_shared(50.0, [DurableDeadline("alice", 160.0)], {"bob": 20.0}, clock.monotonic())
    return it


def test_a_heartbeat_is_covered_while_no_other_bridge_can_have_advanced_the_row_too_far(
    liveness: SharedLiveness, clock: ManualClock
) -> None:
    clock.advance(8)  # the row is at 60 at most: 8 s, and a step of 2 s
    assert liveness.try_heartbeat("alice")
    clock.advance(0.1)
    assert not liveness.try_heartbeat("alice")
    assert not liveness.try_heartbeat("carol")


def test_while_a_user_leaves_no_heartbeat_is_answered_from_memory(liveness: SharedLiveness) -> None:
    deadline = liveness.mark_leaving("alice")
    assert deadline is not None
    assert not liveness.try_heartbeat("alice")
    assert not liveness.alive("alice")
    liveness.undo_leaving("alice", deadline)
    assert liveness.try_heartbeat("alice")


def test_an_answer_that_comes_after_the_news_of_a_log_out_revives_no_user(liveness: SharedLiveness) -> None:
    raised = liveness.raise_begins(["alice", "carol"])
    liveness.left("alice")
    assert liveness.raise_ends(raised, {"alice": 160.0, "carol": 160.0}) == {"carol"}
    assert not liveness.alive("alice")
    assert not liveness.may_be_alive("alice")
    assert liveness.alive("carol")


def test_who_left_lately_is_known_and_may_be_there_again(liveness: SharedLiveness) -> None:
    assert not liveness.may_be_alive("bob")
    liveness.begin(DurableDeadline("bob", 160.0))
    assert liveness.may_be_alive("bob")
    assert liveness.alive("bob")
    assert liveness.may_be_alive("a user of whom only another bridge has heard")


def test_the_rules_see_users_by_the_rows_of_the_turn() -> None:
    rows = {
        "alice": Lifetime(160.0),
        "late": Lifetime(50.0),
        "left": Lifetime(160.0, left_s=49.0),
        "long gone": Lifetime(0.0, left_s=-50.0),
    }
    users = UsersInTurn(SETTINGS, 50.0, rows)
    assert [uid for uid in (*rows, "unknown") if users.alive(uid)] == ["alice"]
    assert [uid for uid in (*rows, "unknown") if not users.may_adopt(uid)] == ["left"]
    assert users.lease_s("alice") == 160 - 10 + 20 - 50 - 2
    assert users.lease_s("left") == users.lease_s("unknown") == 0
    assert users.first_lease_s() == 100 + 20 - 2
