import resource
import threading
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from edge_node.metrics import KEPT
from edge_node.recordings.folder import Kept, Limits, TriggerFolder
from edge_node.recordings.selection import Selection
from edge_node.recordings.writer import WAITING, Writer
from tests.support.waiting import wait_for

NOW = datetime(2026, 1, 31, tzinfo=UTC)
LIMITS = Limits(count=100, bytes=10**9, days=30.0)
FIND = Selection("trigger", 0.9, np.ones(40_000, np.int16))


class Clock:
    """Each look is a second later, so that no two finds have the same name."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


class StuckFolder(TriggerFolder):
    """A disk that takes its time."""

    def __init__(self, state_dir: Path) -> None:
        super().__init__(state_dir, "jetson")
        self.writing, self.go_on = threading.Event(), threading.Event()

    def keep(self, find: Selection, at: datetime) -> Kept:
        self.writing.set()
        assert self.go_on.wait(20)
        return super().keep(find, at)


def counted(result: str) -> float:
    return float(KEPT.labels(result)._value.get())


@contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process may grow beyond a kilobyte: writing ends with an OSError as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_was_put_before_the_end_is_there_after_it(tmp_path: Path) -> None:
    folder = TriggerFolder(tmp_path, "jetson")
    writer = Writer(folder, LIMITS, Clock())
    writer.start()
    for _ in range(3):
        writer.put(FIND)
    writer.stop(20)
    assert [kept.score for kept in folder.all()] == [0.9] * 3


def test_the_listener_never_waits_for_the_disk_and_surplus_is_dropped_and_counted(tmp_path: Path) -> None:
    folder = StuckFolder(tmp_path)
    writer = Writer(folder, LIMITS, Clock())
    writer.start()
    before = counted("dropped")
    writer.put(FIND)
    assert folder.writing.wait(20)
    for _ in range(WAITING + 5):
        writer.put(FIND)
    assert counted("dropped") - before == 5
    folder.go_on.set()
    writer.stop(20)
    assert len(folder.all()) == WAITING + 1


def test_a_full_disk_costs_the_find_and_nothing_else(tmp_path: Path, errors: list[MutableMapping[str, Any]]) -> None:
    folder = TriggerFolder(tmp_path, "jetson")
    writer = Writer(folder, LIMITS, Clock())
    writer.start()
    failed = counted("failed")
    with full_disk():
        writer.put(FIND)
        writer.put(FIND)
        wait_for("two failures", lambda: counted("failed") - failed == 2)
    assert list(folder.path.iterdir()) == []
    writer.put(FIND)
    writer.stop(20)
    assert len(folder.all()) == 1
    assert [entry["event"] for entry in errors if entry["log_level"] == "error"] == ["trigger_not_kept"]


def test_the_folder_stays_within_its_limits(tmp_path: Path) -> None:
    folder = TriggerFolder(tmp_path, "jetson")
    writer = Writer(folder, Limits(count=2, bytes=10**9, days=30.0), Clock())
    writer.start()
    for _ in range(5):
        writer.put(FIND)
    writer.stop(20)
    assert len(folder.all()) == 2


def test_what_grows_too_old_is_deleted_at_the_start_and_while_nothing_happens(tmp_path: Path) -> None:
    folder = TriggerFolder(tmp_path, "jetson")
    clock = Clock()
    folder.keep(FIND, NOW - timedelta(days=31))
    folder.keep(FIND, NOW)
    first = Writer(folder, LIMITS, clock)
    first.start()
    first.stop(20)
    assert len(folder.all()) == 1
    writer = Writer(folder, LIMITS, clock, prune_every_s=0.02)
    writer.start()
    clock.now += timedelta(days=40)
    wait_for("the other is gone", lambda: not folder.all())
    writer.stop(20)
