"""The thread that writes: nothing waits for it, and what it cannot write is told."""

import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from bridge.stories import writer as module
from bridge.stories.file import StoriesFile, StoriesReader
from bridge.stories.records import DeviceState, Event, Run, Story
from bridge.stories.writer import StoryWriter
from tests.support.waiting import wait_until


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def story(wake_id: str) -> Story:
    return Story(
        wake_id, "alice", "jetson", "2026-01-01T00:00:00+00:00", 5.0, 3, 10_000, None, None, "sent", "sent", 0.1, ()
    )


def writer_of(path: Path, time: Time) -> StoryWriter:
    return StoryWriter(path, 7.0, Run("bridge-1", time.now, time.now, None, "0.1.0", pushes=False), time)


def ids(path: Path) -> list[str]:
    return [one.id for one in StoriesReader([path]).stories(0, 1e12)]


async def test_what_was_handed_over_is_in_the_file_at_the_latest_when_the_bridge_ends(tmp_path: Path) -> None:
    path, time = tmp_path / "stories.db", Time()
    writer = writer_of(path, time)
    writer.put([story("before")])
    async with writer.running(lambda _: None):
        writer.put([story("w1")], [Event(time.now, "near", "jetson", {})], [DeviceState("jetson", "online")])
        await wait_until("it is written while the bridge runs", lambda: ids(path) == ["w1"])
        writer.put([story("w2")])
    writer.put([story("after")])
    assert ids(path) == ["w2", "w1"]
    (run,) = StoriesReader([path]).runs()
    assert run.ended == time.now
    known: list[Sequence[DeviceState]] = []
    async with writer_of(path, time).running(known.append):
        pass
    assert known == [[DeviceState("jetson", "online")]]


async def test_a_bridge_that_is_killed_leaves_a_run_without_an_end(tmp_path: Path) -> None:
    path, time = tmp_path / "stories.db", Time()
    writer = writer_of(path, time)
    async with writer.running(lambda _: None):
        time.now += 5
        writer.put([story("w1")])
        await wait_until("it is written", lambda: ids(path) == ["w1"])
        (run,) = StoriesReader([path]).runs()
        assert (run.began, run.written, run.ended) == (1000.0, 1005.0, None)


async def test_a_disk_that_is_full_holds_nothing_up_and_what_fits_later_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, time = tmp_path / "stories.db", Time()
    full = threading.Event()
    real = StoriesFile.write

    def write(*given: object) -> None:
        if full.is_set():
            raise sqlite3.OperationalError("database or disk is full")
        real(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(StoriesFile, "write", write)
    monkeypatch.setattr(module, "MOST_WAITING", 2)
    monkeypatch.setattr(module, "ALIVE_EVERY_S", 0.01)
    writer = writer_of(path, time)
    async with writer.running(lambda _: None):
        full.set()
        for number in range(4):
            writer.put([story(f"w{number}")])
        await wait_until("it has failed", lambda: writer._failing)
        assert ids(path) == []
        full.clear()
        time.now += module.AGAIN_S
        await wait_until("it is written", lambda: ids(path) == ["w1", "w0"])
        (lost,) = StoriesReader([path]).events(["bridge-1"], 0, 1e12)
        assert (lost.kind, lost.told) == ("lost", {"count": 2})


async def test_a_file_that_cannot_be_made_stops_no_bridge(tmp_path: Path) -> None:
    (tmp_path / "occupied").touch()
    async with writer_of(tmp_path / "occupied" / "stories.db", Time()).running(lambda _: None) as nothing:
        assert nothing is None
