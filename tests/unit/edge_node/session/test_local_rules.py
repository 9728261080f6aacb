"""Who is logged in on a device that speaks only HTTP."""

from itertools import count

import pytest

from edge_node.session.local_rules import LocalSession
from edge_node.session.rules import EdgeState


class Device:
    """A device whose disk can be full, and that can be started again."""

    def __init__(self, configured: str | None = None) -> None:
        self.configured = configured
        self.disk = EdgeState(install_id="i")
        self.full = False
        self._ids = (f"s{number}" for number in count(1))
        self.start()

    def start(self) -> None:
        self.session = LocalSession(self.disk, self.configured, new_id=lambda: next(self._ids))
        self.take(self.session.begin())

    def take(self, decision: object) -> None:
        save = getattr(decision, "save", None)
        if save is None:
            return
        if self.full:
            self.session.suspend()
        else:
            self.disk = save
            self.session.stored()

    def login(self, uid: str) -> None:
        self.take(self.session.login(uid))

    def logout(self, uid: str) -> bool:
        decision = self.session.logout(uid)
        self.take(decision)
        return decision is not None

    @property
    def uid(self) -> str | None:
        return self.session.active_uid


def test_the_configured_user_is_logged_in_on_a_new_device() -> None:
    assert Device("alice").uid == "alice"
    assert Device().uid is None


def test_a_logged_out_user_stays_logged_out_over_restarts() -> None:
    device = Device("alice")
    assert device.logout("alice")
    assert device.uid is None
    device.start()
    assert device.uid is None
    device.login("alice")
    device.start()
    assert device.uid == "alice"


def test_another_users_log_out_changes_nothing() -> None:
    device = Device("alice")
    assert not device.logout("bob")
    assert device.uid == "alice"


def test_a_log_out_without_a_session_is_done() -> None:
    device = Device()
    assert device.logout("alice")
    assert device.disk.ended == ()


def test_a_second_user_takes_the_place_of_the_first() -> None:
    device = Device("alice")
    device.login("bob")
    assert device.uid == "bob"
    assert [(entry.session_id, entry.reason) for entry in device.disk.ended] == [("s1", "replaced")]
    device.login("bob")
    assert len(device.disk.ended) == 1
    device.start()
    assert device.uid == "bob"


def test_a_log_out_that_cannot_be_stored_switches_off_and_can_be_tried_again() -> None:
    device = Device("alice")
    device.full = True
    device.logout("alice")
    assert device.uid is None
    assert device.disk.held is not None
    device.full = False
    assert device.logout("alice")
    assert device.disk.held is None


def test_a_log_in_that_cannot_be_stored_is_none() -> None:
    device = Device()
    device.full = True
    device.login("alice")
    assert device.uid is None
    device.full = False
    device.login("alice")
    assert device.uid == "alice"


@pytest.mark.parametrize("restart", [False, True])
def test_a_session_of_it_means_nothing_to_a_bridge(restart: bool) -> None:
    """Its lease is over at once, should the device speak MQTT one day."""
    device = Device("alice")
    if restart:
        device.start()
    assert device.disk.held is not None
    assert device.disk.held.lease_s == 0
