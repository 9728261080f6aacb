from bridge.sessions.rules.active_sessions import ActiveSessions
from bridge.storage.records import Session

OLD, NEW = Session("s1", "jetson", "alice", 1), Session("s2", "jetson", "bob", 3)


def test_the_end_of_an_old_session_takes_nothing_from_a_newer_one() -> None:
    holders = ActiveSessions()
    holders.opened(OLD)
    holders.opened(NEW)
    holders.ended(OLD)
    assert holders.user_of("jetson") == "bob"
    holders.ended(NEW)
    assert holders.user_of("jetson") is None
    assert len(holders) == 0


def test_a_session_is_from_disk_until_it_ends() -> None:
    holders = ActiveSessions()
    holders.load([OLD])
    assert holders.from_disk(OLD)
    assert not holders.from_disk(NEW)
    holders.ended(OLD)
    assert not holders.from_disk(OLD)
