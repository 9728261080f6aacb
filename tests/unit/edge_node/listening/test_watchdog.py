import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_node.listening.watchdog import DeafError, Watchdog, notifier, watchdog_s


@pytest.fixture
def told(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.setblocking(False)
        yield listening


def test_it_is_ready_with_the_first_scored_frame_and_fed_by_scored_frames_only() -> None:
    lines: list[str] = []
    watchdog = Watchdog(lines.append, 4.0, None, 0.0)
    for step, scored in enumerate((0, 0, 1, 2, 2, 2, 2, 3)):
        watchdog.look(scored, float(step))
    assert lines == ["READY=1\nSTATUS=listening", "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1"]


def test_it_does_not_feed_more_often_than_it_must() -> None:
    lines: list[str] = []
    watchdog = Watchdog(lines.append, 4.0, None, 0.0)
    for step in range(1, 41):
        watchdog.look(step, step / 10)
    assert lines.count("WATCHDOG=1") == 4


def test_without_systemd_it_only_watches() -> None:
    lines: list[str] = []
    watchdog = Watchdog(lines.append, None, 60.0, 0.0)
    watchdog.look(1, 1.0)
    watchdog.look(1, 60.9)
    with pytest.raises(DeafError, match="60 s"):
        watchdog.look(1, 61.0)
    assert lines == ["READY=1\nSTATUS=listening"]


def test_a_node_that_never_scores_is_deaf_as_well() -> None:
    watchdog = Watchdog(lambda _: None, None, 60.0, 100.0)
    watchdog.look(0, 159.0)
    with pytest.raises(DeafError):
        watchdog.look(0, 160.0)


def test_a_source_that_may_pause_is_never_deaf() -> None:
    Watchdog(lambda _: None, None, None, 0.0).look(0, 1e9)


def test_systemd_is_told_by_datagram(told: socket.socket) -> None:
    notifier({"NOTIFY_SOCKET": told.getsockname()})("READY=1")
    assert told.recv(100) == b"READY=1"


def test_an_abstract_socket_is_one_too() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0sarvis-test-{os.getpid()}")
        notifier({"NOTIFY_SOCKET": f"@sarvis-test-{os.getpid()}"})("WATCHDOG=1")
        assert listening.recv(100) == b"WATCHDOG=1"


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "/nowhere/at/all"}])
def test_without_listeners_nothing_happens(environment: dict[str, str]) -> None:
    notifier(environment)("READY=1")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_systemd_says_how_often_it_wants_to_be_told(environment: dict[str, str], expected: float | None) -> None:
    assert watchdog_s(environment, 7) == expected
