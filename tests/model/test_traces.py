"""The histories that broke earlier drafts of the rules; each is told in docs/sessions.md."""

import pytest

from contract.messages import DeviceStatus, Login, Logout
from tests.model.world import COALESCE, DEVICE, GRACE, RESTART, T, World


def logged_in(uid: str = "alice") -> World:
    """The user is in, on the device and in the ledger, and nothing is under way."""
    world = World(claim=uid)
    world.connect(uid)
    world.a_calm_second()
    world.deliver_everything()
    assert world.edge.active_uid == uid
    return world


def in_use_by(world: World) -> str | None:
    return world.edge.active_uid


def holds_any(world: World) -> bool:
    return world.disk.held is not None


def run_down(world: World, seconds: float) -> None:
    for _ in range(round(seconds)):
        world.time_passes(1)
        world.up.clear()
        world.down.clear()


def beat_for(world: World, seconds: int) -> None:
    for _ in range(seconds):
        world.beat("alice")
        world.a_calm_second()


def test_a_login_delayed_beyond_its_lease_counts_for_nothing() -> None:
    world = World()
    world.connect("alice")
    world.time_passes(1)
    hello = world.up.pop()
    world.at_bridge(hello)
    late = [message for message in world.down if isinstance(message, Login) and message.re is not None]
    assert len(late) == 1
    world.down.clear()
    world.edge.disconnected()  # no newer hello replaces the nonce
    run_down(world, T + GRACE + 1)
    world.at_edge(late[0])
    assert world.edge.active_uid is None
    assert world.disk.held is None


@pytest.mark.parametrize("how", ["lapse", "local log-out"])
def test_a_renewal_that_arrives_after_the_end_revives_nothing(how: str) -> None:
    world = logged_in()
    session_id = world.disk.held and world.disk.held.session_id
    world.edge.connected(world.clock.monotonic())
    world.time_passes(1)
    world.at_bridge(world.up.pop())
    (renewal,) = [message for message in world.down if isinstance(message, Login)]
    assert renewal.session_id == session_id
    world.down.clear()
    if how == "lapse":
        world.edge.disconnected()
        run_down(world, T + GRACE + 1)
    else:
        world.log_out_beside_the_device("alice")
    world.at_edge(renewal)
    assert world.disk.held is None
    assert world.edge.active_uid is None


def test_a_heartbeat_just_before_a_lapse_keeps_the_device_although_no_hello_is_near() -> None:
    world = logged_in()
    world.time_passes(round(T) - 2)
    world.beat("alice")
    for _ in range(round(GRACE) + 5):
        world.a_calm_second()
    assert world.edge.active_uid == "alice", "renewals follow the lease, so that a beat is never too late for it"
    assert world.gone == []


@pytest.mark.parametrize("how", ["restarted", "wiped"])
def test_an_edge_that_forgets_while_active_goes_to_standby_and_comes_back(how: str) -> None:
    world = logged_in()
    if how == "restarted":
        world.edge_restarts()
    else:
        world.edge_is_wiped()
    assert in_use_by(world) is None, "suspended until a grant"
    world.a_calm_second()
    assert in_use_by(world) == "alice"
    world.log_out("alice")
    world.agree()
    assert in_use_by(world) is None


def test_a_restored_ledger_revives_no_session_that_its_device_has_ended() -> None:
    world = logged_in()
    yesterdays = world.disk.held
    assert yesterdays is not None
    world.back_up()
    for _ in range(10):  # more than the device remembers
        world.log_out("alice")
        world.agree()
        world.connect("alice")
        world.log_in("alice")
        world.agree()
    world.log_out("alice")
    world.agree()
    assert yesterdays.session_id not in {entry.session_id for entry in world.disk.ended}
    world.restore()
    world.agree()
    assert world.disk.held is None or world.disk.held.session_id != yesterdays.session_id
    ended = world.store.tables.sessions[yesterdays.session_id]
    assert ended.ended == "operator", "history was lost, and the device's higher generation told"


def test_a_restored_ledger_adopts_running_sessions_and_gives_users_the_full_time() -> None:
    world = logged_in()
    world.back_up()
    world.log_in("bob")
    world.agree()
    runs = world.disk.held
    assert runs is not None
    assert runs.uid == "bob"
    world.restore()
    world.agree()
    assert world.disk.held == runs or (world.disk.held and world.disk.held.session_id == runs.session_id)
    assert world.sessions.user_of(DEVICE) == "bob"


def test_a_log_out_settled_before_its_login_arrives_holds_afterwards() -> None:
    world = World(claim=None)
    world.log_in("alice")
    world.time_passes(1)
    world.at_bridge(world.up.pop())
    login = next(message for message in world.down if isinstance(message, Login) and message.re is not None)
    world.down.clear()
    world.log_out("alice")
    (logout,) = [message for message in world.down if isinstance(message, Logout)]
    world.down.clear()
    world.at_edge(logout)
    ack = world.up.pop()
    world.at_bridge(ack)
    assert not world.store.tables.pending
    world.at_edge(login)
    assert world.disk.held is None
    world.agree()


def test_a_configured_user_who_is_absent_stays_logged_out() -> None:
    world = logged_in()
    world.log_out("alice")
    for _ in range(30):
        world.a_calm_second()
        world.edge.connected(world.clock.monotonic())
    assert world.edge.active_uid is None
    assert world.sessions.user_of(DEVICE) is None
    world.connect("alice")
    world.a_calm_second()
    assert world.edge.active_uid == "alice"


def test_an_answered_heartbeat_survives_a_kill_in_the_next_moment() -> None:
    world = logged_in()
    for second in range(round(T) - 1):
        world.time_passes(1)
        if second % 7 == 0:
            world.beat("alice")
    world.beat("alice")
    # The floor after a restart is far below: only the promise on disk can carry her over.
    world.bridge_restarts()
    run_down(world, T - 1)
    assert world.gone == []
    run_down(world, 1 + COALESCE + RESTART)
    assert world.gone == [("alice", "heartbeat_timeout")]


def test_a_restarted_bridge_expires_users_by_the_durable_deadline_not_earlier() -> None:
    world = logged_in()
    beat_for(world, round(COALESCE) - 2)  # all covered by the first promise: nothing more was written
    assert len({promise.until_s for promise in world.store.tables.promises.values()}) == 1
    at = world.clock.monotonic()
    world.bridge_restarts()
    while not world.gone:
        run_down(world, 1)
    assert T <= world.clock.monotonic() - at <= T + COALESCE + 1


def test_a_crash_loop_lets_a_silent_user_expire() -> None:
    world = logged_in()
    run_down(world, T - 5)
    lived = 0.0
    while not world.gone:
        run_down(world, RESTART / 2)
        lived += RESTART / 2
        if not world.gone:
            world.bridge_restarts()
        assert lived < 5 + COALESCE + RESTART + 20, "each restart gave time anew"


def test_a_heartbeat_between_two_crashes_earns_the_grace_anew() -> None:
    world = logged_in()
    run_down(world, T - 5)
    world.bridge_restarts()
    assert world.store.tables.promises["alice"].floored
    world.beat("alice")
    assert not world.store.tables.promises["alice"].floored


def test_an_hour_of_sigstop_logs_no_user_out() -> None:
    world = logged_in()
    world.edge.disconnected()
    world.bridge_sleeps(3600)
    world.time_passes(1)
    assert world.gone == []
    world.beat("alice")
    world.agree()
    assert world.edge.active_uid == "alice"


def test_a_leap_of_the_clock_logs_no_user_out() -> None:
    world = logged_in()
    world.clock.advance(7200)
    world.credit += 7200
    world.time_passes(1)
    assert world.gone == []


def test_two_answers_to_one_hello_count_once() -> None:
    world = logged_in()
    world.edge.connected(world.clock.monotonic())
    world.time_passes(1)
    hello = world.up.pop()
    world.at_bridge(hello)
    (first,) = [message for message in world.down if isinstance(message, Login)]
    assert first.lease_s is not None
    second = first.model_copy(update={"id": "other", "session_id": "of-another-bridge", "uid": "bob"})
    world.down.clear()
    world.at_edge(first)
    world.at_edge(second)
    assert world.edge.active_uid == "alice"


def lives_on(world: World, starts: int = 3) -> None:
    for _ in range(starts):
        world.edge_restarts()
        world.a_calm_second()


def two_calm_seconds(world: World) -> None:
    """One in which it is told, one in which it says hello with its new number."""
    world.a_calm_second()
    world.a_calm_second()


def test_a_card_restored_from_its_image_is_in_use_at_each_start() -> None:
    world = logged_in()
    world.edge_is_copied()
    lives_on(world)
    for _ in range(3):
        world.card_is_restored()
        assert in_use_by(world) is None
        two_calm_seconds(world)
        assert in_use_by(world) == "alice"
        lives_on(world, 1)
        assert in_use_by(world) == "alice"


def test_a_log_out_after_the_image_ends_the_restored_session_and_is_confirmed() -> None:
    world = logged_in()
    world.edge_is_copied()
    lives_on(world)
    world.log_out("alice")
    world.a_calm_second()
    assert not holds_any(world)
    for _ in range(3):
        world.card_is_restored()
        assert holds_any(world)
        two_calm_seconds(world)
        assert not holds_any(world)
        assert not world.store.tables.pending


def test_a_machine_that_is_set_back_within_a_boot_goes_beyond_and_ends_what_is_over() -> None:
    world = logged_in()
    world.edge_is_copied()
    world.time_passes(5)
    world.edge.connected(world.clock.monotonic())
    world.a_calm_second()
    world.log_out("alice")
    world.a_calm_second()
    boot = world.disk.boot
    world.machine_is_set_back()
    assert in_use_by(world) == "alice", "it does not know better yet"
    two_calm_seconds(world)
    assert in_use_by(world) is None
    assert world.disk.boot == boot + 1


@pytest.mark.parametrize("late_by", ["the same boot", "an earlier boot"])
def test_a_message_that_was_late_changes_nothing_on_either_side(late_by: str) -> None:
    world = logged_in()
    world.edge.connected(world.clock.monotonic())
    world.time_passes(1)
    late = world.up.pop()
    if late_by == "an earlier boot":
        world.edge_restarts()
    world.edge.connected(world.clock.monotonic())
    world.a_calm_second()
    device, disk = world.store.tables.devices[DEVICE], world.disk
    for _ in range(3):
        world.at_bridge(late)
        world.deliver_everything()
    assert world.store.tables.devices[DEVICE] == device
    assert world.disk == disk
    assert in_use_by(world) == "alice"


def test_what_was_said_before_the_card_was_restored_is_never_believed_again() -> None:
    world = logged_in()
    world.edge_is_copied()
    lives_on(world)
    world.edge.connected(world.clock.monotonic())
    world.time_passes(1)
    before = world.up.pop()
    world.card_is_restored()
    two_calm_seconds(world)
    device = world.store.tables.devices[DEVICE]
    assert (before.boot, before.seq) < (device.boot, device.seq)
    world.at_bridge(before)
    assert world.store.tables.devices[DEVICE] == device


def test_a_late_last_will_stops_no_repetition() -> None:
    world = logged_in()
    world.sessions.device_status(DEVICE, DeviceStatus(state="online", boot=2))
    world.sessions.device_status(DEVICE, DeviceStatus(state="offline", boot=1))
    world.log_out("alice")
    world.down.clear()
    for _ in range(30):
        world.time_passes(1)
    assert [message for message in world.down if isinstance(message, Logout)], "it was seen online as boot 2"
