from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

from bridge.sessions.rules.outbox import Outbox
from bridge.storage.records import PendingLogout


def row(device_id: str = "jetson", session_id: str = "s1") -> PendingLogout:
    return PendingLogout("c-" + session_id, session_id, device_id, "alice", 1, "app", "now")


def everywhere(_device_id: str, _now: float) -> bool:
    return True


def nowhere(_device_id: str, _now: float) -> bool:
    return False


def due(outbox: Outbox, now: float, online: Callable[[str, float], bool]) -> list[PendingLogout]:
    publish, post, dead = outbox.due(now, online)
    assert not dead
    return [*publish, *post]


def test_a_command_is_not_repeated_to_a_device_that_is_not_seen() -> None:
    outbox = Outbox()
    outbox.add(row(), now=0)
    assert due(outbox, 1000, nowhere) == []


def test_a_command_is_repeated_to_a_device_that_is_online_until_it_confirms() -> None:
    outbox = Outbox(jitter=lambda: 1.0)
    outbox.add(row(), now=0)
    assert due(outbox, 1.9, everywhere) == []
    assert due(outbox, 2.0, everywhere) == [row()]
    assert due(outbox, 2.1, everywhere) == []
    outbox.settled("jetson", "s1")
    assert due(outbox, 1000, everywhere) == []
    assert len(outbox) == 0


def test_repetitions_become_rarer_up_to_a_minute() -> None:
    outbox = Outbox(jitter=lambda: 1.0)
    outbox.add(row(), now=0)
    times = [second for second in range(1000) if due(outbox, second, everywhere)]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert gaps == sorted(gaps)
    assert gaps[-1] == 60


def test_a_dead_device_delays_no_other_and_order_is_kept_per_device() -> None:
    outbox = Outbox()
    outbox.add(row("dead", "s0"), now=0)
    outbox.add(row("jetson", "s1"), now=0)
    outbox.add(row("jetson", "s2"), now=0)
    online = {"jetson"}
    assert [waiting.session_id for waiting in due(outbox, 5, lambda device, _: device in online)] == ["s1", "s2"]


def test_a_device_that_comes_online_is_told_soon() -> None:
    outbox = Outbox()
    outbox.add(row(), now=0)
    assert due(outbox, 1000, nowhere) == []
    outbox.awake("jetson", 1000)
    assert due(outbox, 1001, everywhere) == []
    assert due(outbox, 1002, everywhere) == [row()]


def test_after_an_outage_of_the_broker_nobody_waits_for_the_pause_that_has_grown() -> None:
    outbox = Outbox(jitter=lambda: 1.0)
    outbox.add(row(), now=0)
    outbox.add(posted(), now=0)
    for second in range(580):
        due(outbox, second, everywhere)
    outbox.broker_reached(580)
    assert due(outbox, 581.9, everywhere) == []
    assert due(outbox, 582, everywhere) == [row()]
    assert due(outbox, 585.9, everywhere) == []
    assert due(outbox, 586, everywhere) == [row()]


def posted(session_id: str = "s1", device_id: str = "old", uid: str = "alice") -> PendingLogout:
    url = f"http://{device_id}/logout"
    return PendingLogout("c-" + session_id, session_id, device_id, uid, 1, "app", "now", queued_s=0, url=url)


def test_an_http_device_gets_one_post_at_a_time_oldest_first() -> None:
    outbox = Outbox()
    outbox.add(posted("s1"), now=0)
    outbox.add(posted("s2"), now=0)
    assert due(outbox, 0, nowhere) == [posted("s1")]
    assert outbox.busy("old")
    assert due(outbox, 1000, nowhere) == []
    outbox.settled("old", "s1")
    outbox.posted("old", 1000, taken=True)
    assert due(outbox, 1000, nowhere) == [posted("s2")]
    outbox.settled("old", "s2")
    outbox.posted("old", 1000, taken=True)
    assert (len(outbox), outbox.busy("old"), outbox.posted_of("alice")) == (0, False, [])


def test_a_post_in_vain_comes_again_later_and_later_with_jitter() -> None:
    outbox = Outbox(jitter=lambda: 0.0)
    outbox.add(posted(), now=0)
    times = []
    for second in range(300):
        if due(outbox, second, nowhere):
            times.append(second)
            outbox.posted("old", second, taken=False)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert gaps[:4] == [2, 4, 8, 16]
    assert gaps[-1] == 30, "a minute, less what jitter takes"


def test_a_row_is_dead_after_a_day_and_keeps_nobody_busy() -> None:
    outbox = Outbox()
    outbox.add(posted(), now=0)
    assert outbox.due(0, nowhere, 24 * 3600 - 1).post == [posted()]
    outbox.posted("old", 0, taken=False)
    assert outbox.due(10, nowhere, 24 * 3600) == ([], [], [posted()])
    assert not outbox.busy("old")
    assert outbox.due(100, nowhere, 24 * 3600).dead == [posted()], "until it is taken out"


def test_the_age_of_the_oldest_row_is_told_for_devices_that_are_online_and_for_others() -> None:
    outbox = Outbox()
    assert outbox.oldest_s(0, everywhere, 100.0, wanted=True) == 0
    outbox.add(replace(row("old", "s1"), queued_s=40.0), now=0)
    outbox.add(replace(row("old", "s2"), queued_s=70.0), now=0)
    outbox.add(replace(row("young", "s3"), queued_s=90.0), now=0)

    def young(device_id: str, _now: float) -> bool:
        return device_id == "young"

    assert outbox.oldest_s(0, young, 100.0, wanted=False) == 60.0
    assert outbox.oldest_s(0, young, 100.0, wanted=True) == 10.0
