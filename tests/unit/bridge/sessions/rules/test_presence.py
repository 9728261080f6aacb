from bridge.sessions.rules.presence import Presence


def test_a_device_is_there_once_it_said_something() -> None:
    presence = Presence(offline_grace_s=10)
    assert not presence.online("jetson", 0)
    presence.seen("jetson", boot=1)
    assert presence.online("jetson", 1e9)


def test_a_last_will_is_believed_after_a_grace() -> None:
    presence = Presence(offline_grace_s=10)
    presence.seen("jetson", boot=1)
    presence.gone("jetson", boot=1, now=5)
    assert presence.online("jetson", 14.9)
    assert not presence.online("jetson", 15)


def test_a_second_will_of_the_same_boot_begins_no_new_grace() -> None:
    presence = Presence(offline_grace_s=10)
    presence.seen("jetson", boot=1)
    presence.gone("jetson", boot=1, now=5)
    presence.gone("jetson", boot=1, now=14)
    assert not presence.online("jetson", 15)


def test_a_late_will_of_an_older_boot_changes_nothing() -> None:
    presence = Presence(offline_grace_s=10)
    presence.seen("jetson", boot=2)
    presence.gone("jetson", boot=1, now=0)
    assert presence.online("jetson", 100)


def test_a_device_that_says_something_is_back_also_as_a_new_installation() -> None:
    presence = Presence(offline_grace_s=10)
    presence.seen("jetson", boot=7)
    presence.gone("jetson", boot=7, now=0)
    presence.seen("jetson", boot=1)
    assert presence.online("jetson", 100)
