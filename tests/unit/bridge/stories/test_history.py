"""What is remembered of devices, and what is not invented."""

import pytest

from bridge.stories.history import SEEN_EVERY_S, DeviceHistory, most_common
from bridge.stories.records import DeviceState
from contract.messages import DeviceStatus

ONLINE = DeviceStatus(state="online", boot=1, session="active", version="0.1.0")


def changed(**more: object) -> DeviceStatus:
    return ONLINE.model_copy(update=more)


def test_each_change_is_an_event_and_a_repetition_is_none() -> None:
    history = DeviceHistory()
    history.status("jetson", ONLINE, 100.0, retained=False)
    history.status("jetson", ONLINE, 101.0, retained=False)
    history.status("jetson", changed(muted=True), 110.0, retained=False)
    history.status("jetson", changed(alarms=("microphone_lost",)), 120.0, retained=False)
    history.status("jetson", changed(session="standby"), 130.0, retained=False)
    history.status("jetson", changed(state="offline"), 140.0, retained=False)
    events, (state,) = history.take()
    told = [
        (event.at, event.told["state"], event.told["session"], event.told["muted"], event.told["alarms"])
        for event in events
    ]
    assert told == [
        (100.0, "online", "active", False, []),
        (110.0, "online", "active", True, []),
        (120.0, "online", "active", False, ["microphone_lost"]),
        (130.0, "online", "standby", False, []),
        (140.0, "offline", "active", False, []),
    ]
    assert (state.state, state.since, state.noticed, state.seen, state.version) == (
        "offline",
        140.0,
        False,
        130.0,
        "0.1.0",
    )
    assert history.take() == ([], [])


def test_a_retained_status_and_a_last_will_are_no_sighting() -> None:
    history = DeviceHistory()
    history.load([DeviceState("jetson", "online", 50.0, session="active", seen=60.0, version="0.1.0")])
    history.status("jetson", ONLINE, 1000.0, retained=True)
    assert history.take() == ([], []), "the restart of the bridge is no news of the device"
    history.status("jetson", changed(state="offline"), 1001.0, retained=True)
    (event,), (state,) = history.take()
    assert event.told["noticed"] is True
    assert (state.state, state.since, state.noticed, state.seen) == ("offline", 1001.0, True, 60.0)


def test_a_device_that_is_there_is_written_now_and_then() -> None:
    history = DeviceHistory()
    for second in range(61):
        history.seen("jetson", 100.0 + second)
    _, (state,) = history.take()
    assert state.seen == 100.0 + 2 * SEEN_EVERY_S


def test_the_version_and_the_model_of_a_hello_are_kept() -> None:
    history = DeviceHistory()
    history.report("jetson", "0.1.0", "ssabiseu", 100.0)
    history.report("jetson", "", "", 100.0)
    _, (state,) = history.take()
    assert (state.version, state.model, state.seen) == ("0.1.0", "ssabiseu", 100.0)


def test_near_misses_are_counted_from_their_growth_also_after_a_new_start() -> None:
    history = DeviceHistory()
    for near in (None, 2, 2, 5, 1, 0):
        history.status("jetson", changed(near=near, best=0.4, threshold=0.5), 100.0, retained=False)
    events, _ = history.take()
    assert [event.told["more"] for event in events if event.kind == "near"] == [2, 3, 1]
    assert events[1].told == {"more": 2, "best": 0.4, "threshold": 0.5}


def test_names_that_an_open_broker_lets_in_fill_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.stories.history.MOST_DEVICES", 2)
    history = DeviceHistory()
    for number in range(5):
        history.seen(f"x{number}", 100.0)
    assert len(history._known) == 2


def test_only_plain_names_and_only_the_most_frequent_are_shown_by_name() -> None:
    counts = {"0.2.0": 5, "0.1.0": 9, "1.0": 5, "": 1, "alice/\n": 2, "x" * 41: 3, "other": 4}
    assert most_common(counts, 2) == {"0.1.0": 9, "0.2.0": 5, "other": 15}
    assert most_common(counts, 20) == {"0.1.0": 9, "0.2.0": 5, "1.0": 5, "other": 10}
    assert most_common({}, 20) == {"other": 0}


def test_the_devices_that_are_longest_in_a_state_come_first() -> None:
    history = DeviceHistory()
    for name, at in (("c", 10.0), ("a", 30.0), ("b", 10.0), ("here", 5.0)):
        history.status(name, ONLINE if name == "here" else changed(state="offline"), at, retained=False)
    found = history.longest_in("offline", 2)
    assert [state.device_id for state in found] == ["b", "c"]
    found[0].state = "online"
    assert history.count("offline") == 3, "they are copies"
