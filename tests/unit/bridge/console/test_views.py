"""What a page shows of a device: the worst that is known, by word and mark."""

import pytest

from bridge.console.feed import Told, changes
from bridge.console.views import shown
from bridge.storage.records import Device
from bridge.stories.records import DeviceState


@pytest.mark.parametrize(
    ("row", "state", "expected"),
    [
        (None, None, ("", "?", "unknown")),
        (Device("d"), DeviceState("d"), ("", "?", "unknown")),
        (Device("d", state="removed"), DeviceState("d", "online"), ("off", "✕", "removed")),
        (Device("d", logout_url="http://x"), None, ("", "-", "HTTP only")),
        (None, DeviceState("d", "offline", alarms=("microphone_lost",)), ("off", "○", "offline")),
        (None, DeviceState("d", "online", session="active"), ("good", "●", "logged in")),
        (None, DeviceState("d", "online", session="standby"), ("", "◐", "online, standby")),
        (None, DeviceState("d", "online", session="active", muted=True), ("alarm", "!", "muted")),
        (
            None,
            DeviceState("d", "online", session="active", muted=True, alarms=("a", "b")),
            ("alarm", "!", "deaf: a, b"),
        ),
    ],
)
def test_the_state_of_a_device(row: Device | None, state: DeviceState | None, expected: tuple[str, str, str]) -> None:
    assert shown("en", row, state) == expected


def test_it_is_in_the_persons_language() -> None:
    assert shown("ko", None, DeviceState("d", "online", muted=True)).text == "음소거"


def test_only_what_changed_is_told() -> None:
    known: dict[str, Told] = {}
    now: dict[str, Told] = {"a": {"id": "a", "text": "1"}, "b": {"id": "b", "text": "1"}}
    assert changes(lambda: now, known) == [now["a"], now["b"]]
    assert changes(lambda: now, known) == []
    later: dict[str, Told] = {**now, "b": {"id": "b", "text": "2"}}
    assert changes(lambda: later, known) == [{"id": "b", "text": "2"}]
