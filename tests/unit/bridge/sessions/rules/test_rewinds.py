from bridge.sessions.rules.rewinds import MAX_DEVICES, SURE_AFTER_S, Rewinds


def test_one_burst_of_late_messages_tells_nothing_of_a_device() -> None:
    rewinds = Rewinds()
    assert [rewinds.older("jetson", 7, now) for now in (0.0, 0.1, SURE_AFTER_S - 0.1)] == [False] * 3
    assert not rewinds.stuck("jetson")
    assert not rewinds.believed("jetson", 7)


def test_a_device_that_keeps_reporting_old_state_is_stuck_and_named_once() -> None:
    rewinds = Rewinds()
    assert [rewinds.older("jetson", 7, now) for now in (0.0, 2.0, 6.0)] == [False, True, False]
    assert rewinds.stuck("jetson")
    assert not rewinds.stuck("kitchen")
    assert not rewinds.believed("jetson", 8), "it was named before"
    assert not rewinds.stuck("jetson")
    assert [rewinds.older("jetson", 8, now) for now in (9.0, 11.0)] == [False, True]


def test_a_device_that_goes_beyond_what_it_was_told_is_named_then() -> None:
    rewinds = Rewinds()
    rewinds.older("jetson", 7, 0.0)
    assert rewinds.believed("jetson", 8)
    assert not rewinds.believed("jetson", 9)


def test_it_remembers_only_so_many_devices() -> None:
    rewinds = Rewinds()
    for number in range(MAX_DEVICES + 10):
        rewinds.older(f"device-{number}", 1, 0.0)
    assert len(rewinds._told) == MAX_DEVICES
