import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from edge_node.audio.soundfiles import read_wav
from edge_node.recordings.folder import Kept, Limits, TriggerFolder
from edge_node.recordings.selection import Kind, Selection

NOW = datetime(2026, 1, 31, 10, 15, 2, 123_456, UTC)
MANY = Limits(count=100, bytes=10**9, days=30.0)


@pytest.fixture
def folder(tmp_path: Path) -> TriggerFolder:
    return TriggerFolder(tmp_path / "state", "jetson-1")


def find(kind: Kind = "trigger", score: float = 0.8124) -> Selection:
    return Selection(kind, score, np.arange(1000, dtype=np.int16))


def keep(folder: TriggerFolder, days_ago: float = 0.0, kind: Kind = "trigger") -> Kept:
    return folder.keep(find(kind), NOW - timedelta(days=days_ago))


def test_a_name_says_all_that_is_known(folder: TriggerFolder) -> None:
    kept = folder.keep(find(), NOW)
    assert kept.name == "20260131T101502.123Z-trigger-0.812-new.wav"
    assert folder.all() == [Kept("20260131T101502.123Z", "trigger", 0.812, "new", 2044)]
    assert kept.at == NOW.replace(microsecond=123_000)
    assert (read_wav(folder.path / kept.name) == find().samples).all()


def test_the_folder_and_what_is_in_it_are_for_their_owner_alone(folder: TriggerFolder) -> None:
    before = os.umask(0)
    try:
        kept = folder.keep(find(), NOW)
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder.path / kept.name).stat().st_mode) == 0o600


def test_a_folder_that_others_could_read_is_closed(folder: TriggerFolder) -> None:
    folder.path.mkdir(parents=True, mode=0o755)
    folder.keep(find(), NOW)
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700


def test_a_label_is_kept_and_may_be_changed(folder: TriggerFolder) -> None:
    word = folder.label(keep(folder), "word")
    assert [kept.label for kept in folder.all()] == ["word"]
    folder.label(word, "other")
    assert [kept.label for kept in folder.all()] == ["other"]


def test_what_is_forgotten_is_gone_and_may_be_forgotten_twice(folder: TriggerFolder) -> None:
    kept = keep(folder)
    folder.forget(kept)
    folder.forget(kept)
    assert folder.all() == []


def test_foreign_files_are_neither_listed_nor_deleted(folder: TriggerFolder) -> None:
    keep(folder)
    mine = folder.path / "notes.txt"
    mine.write_text("mine")
    folder.prune(Limits(count=0, bytes=0, days=0.1), NOW + timedelta(days=99))
    assert folder.all() == []
    assert mine.exists()


def test_what_is_too_old_goes_also_if_it_has_a_label(folder: TriggerFolder) -> None:
    folder.label(keep(folder, days_ago=31), "other")
    keep(folder, days_ago=31)
    young = keep(folder, days_ago=29)
    folder.prune(MANY, NOW)
    assert [kept.id for kept in folder.all()] == [young.id]


def test_surplus_is_deleted_near_misses_first_then_oldest_and_labelled_last(folder: TriggerFolder) -> None:
    labelled = folder.label(keep(folder, days_ago=9), "other")
    old, young = keep(folder, days_ago=8), keep(folder, days_ago=7)
    keep(folder, days_ago=1, kind="near")
    folder.prune(Limits(count=3, bytes=10**9, days=30.0), NOW)
    assert [kept.id for kept in folder.all()] == [labelled.id, old.id, young.id]
    folder.prune(Limits(count=2, bytes=10**9, days=30.0), NOW)
    assert [kept.id for kept in folder.all()] == [labelled.id, young.id]
    folder.prune(Limits(count=2, bytes=3000, days=30.0), NOW)
    assert [kept.id for kept in folder.all()] == [labelled.id]


def test_room_is_made_for_one_more(folder: TriggerFolder) -> None:
    keep(folder, days_ago=3)
    young = keep(folder, days_ago=2)
    folder.prune(Limits(count=2, bytes=10**9, days=30.0), NOW, room_for=2000)
    assert [kept.id for kept in folder.all()] == [young.id]
    folder.prune(Limits(count=9, bytes=4000, days=30.0), NOW, room_for=2000)
    assert folder.all() == []


def test_what_a_killed_process_left_half_written_is_cleared_up(folder: TriggerFolder) -> None:
    folder.clear_up()
    kept = keep(folder)
    half = folder.path / f".{kept.name}.0123"
    half.write_bytes(b"RIFF")
    folder.clear_up()
    assert [file.name for file in folder.path.iterdir()] == [kept.name]
