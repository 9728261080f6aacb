"""Stories and events come back from the file as they went in, within their bounds."""

import sqlite3
from pathlib import Path

import pytest
from msgspec.structs import replace

from bridge.stories import file as module
from bridge.stories.file import DAY_S, StoriesError, StoriesFile, StoriesReader, check, encoded
from bridge.stories.records import DeviceState, Event, Run, Story


def run(bridge: str = "bridge-1", began: float = 100.0) -> Run:
    return Run(bridge, began, began, None, "0.1.0", pushes=False)


def story(wake_id: str, state: str = "sent") -> Story:
    steps = ((5.0, "queued", "phone", "v2"),)
    return Story(
        wake_id, "alice", "jetson", "2026-01-01T00:00:00+00:00", 5.0, 3, 10_000, 0.8, "m", state, "sent", 0.1, steps
    )


def write(file: StoriesFile, at: float, *stories: Story, events: tuple[Event, ...] = ()) -> None:
    file.write(at, [(at, len(stories), encoded(list(stories)))] if stories else [], events, [])


def ids(path: Path, since: float = 0.0, until: float = 1e12) -> list[str]:
    return [story.id for story in StoriesReader([path]).stories(since, until)]


def test_a_story_is_read_as_it_was_written_in_its_newest_version(tmp_path: Path) -> None:
    path = tmp_path / "below" / "stories.db"
    file = StoriesFile.open(path, run())
    write(file, 200.0, story("w1"), story("w2"))
    write(file, 201.0, story("w1", "acked"))
    found = list(StoriesReader([path]).stories(0, 300))
    assert [(one.id, one.state, one.bridge) for one in found] == [
        ("w1", "acked", "bridge-1"),
        ("w2", "sent", "bridge-1"),
    ]
    assert found[1].steps == ((5.0, "queued", "phone", "v2"),)
    assert ids(path, 201.0) == ["w1"]
    assert path.stat().st_mode & 0o777 == 0o600
    file.close()


def test_two_bridges_write_one_file_or_two_and_a_reader_gets_what_each_saw(tmp_path: Path) -> None:
    paths = [tmp_path / "one.db", tmp_path / "two.db"]
    files = [
        StoriesFile.open(path, run(name))
        for path, name in ((paths[0], "bridge-1"), (paths[0], "bridge-2"), (paths[1], "bridge-3"))
    ]
    for number, file in enumerate(files):
        write(file, 200.0 + number, story("w1"))
    found = [(one.id, one.bridge) for one in StoriesReader(paths).stories(0, 300)]
    assert sorted(found) == [("w1", "bridge-1"), ("w1", "bridge-2"), ("w1", "bridge-3")]
    for file in files:
        file.close()


def test_events_are_found_by_what_they_are_about_and_their_time(tmp_path: Path) -> None:
    path = tmp_path / "stories.db"
    file = StoriesFile.open(path, run())
    events = (
        Event(10.0, "status", "jetson", {"muted": True, "alarms": ["a"]}),
        Event(20.0, "near", "jetson", {"more": 1}),
        Event(15.0, "app_left", "alice", {"code": 4001}),
        Event(15.0, "broker", "bridge-1", {"problem": None}),
    )
    write(file, 30.0, events=events)
    reader = StoriesReader([path])
    assert reader.events(["jetson", "alice"], 0, 19) == [events[0], events[2]]
    assert reader.events(["jetson"], 15, 25) == [events[1]]
    assert reader.events(["other"], 0, 99) == []
    file.close()


def test_what_is_older_than_its_days_and_the_oldest_of_too_many_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_STORIES", 4)
    path = tmp_path / "stories.db"
    file = StoriesFile.open(path, run())
    write(file, 1.0, story("old"), events=(Event(1.0, "near", "jetson", {}),))
    for number in range(4):
        at = 2 * DAY_S + number
        write(file, at, story(f"w{number}a"), story(f"w{number}b"), events=(Event(at, "near", "jetson", {}),))
    file.prune(2 * DAY_S + 4, days=1.0)
    assert ids(path) == ["w3b", "w3a", "w2b", "w2a"]
    assert len(StoriesReader([path]).events(["jetson"], 0, 1e12)) == 4
    file.close()


def test_a_run_tells_whether_it_ended_in_order_and_until_when_it_wrote(tmp_path: Path) -> None:
    path = tmp_path / "stories.db"
    killed = StoriesFile.open(path, run(began=100.0))
    write(killed, 150.0, story("w1"))
    killed.close()
    ended = StoriesFile.open(path, run(began=160.0))
    ended.end(170.0)
    ended.close()
    runs = [(one.began, one.written, one.ended) for one in StoriesReader([path]).runs()]
    assert runs == [(100.0, 150.0, None), (160.0, 170.0, 170.0)]


def test_the_last_state_of_a_device_outlives_the_bridge(tmp_path: Path) -> None:
    path = tmp_path / "stories.db"
    state = DeviceState(
        "jetson", "online", 5.0, seen=9.0, alarms=("microphone_lost",), version="0.1.0", near=2, best=0.4
    )
    file = StoriesFile.open(path, run())
    file.write(10.0, [], [], [DeviceState("jetson"), state])
    file.close()
    again = StoriesFile.open(path, run(began=200.0))
    assert again.devices() == [state]
    assert StoriesReader([path]).devices() == {"jetson": state}
    again.close()


def test_a_file_of_others_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    with sqlite3.connect(path) as theirs:
        theirs.execute("CREATE TABLE notes (text)")
    theirs.close()
    with pytest.raises(StoriesError, match=r"is no file of stories.*bridge\.stories_file"):
        StoriesFile.open(path, run())
    with pytest.raises(StoriesError, match="is no file of stories"):
        check(path)


def test_a_missing_file_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StoriesError, match=r"there are no stories at .*bridge\.stories_days.*--stories"):
        check(tmp_path / "none.db")


def test_a_damaged_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "stories.db"
    path.write_bytes(b"SQLite format 3\0" + b"x" * 4096)
    with pytest.raises(StoriesError, match=f"the stories in {path} cannot be read"):
        check(path)
    with pytest.raises(StoriesError, match=f"the stories in {path} cannot be read"):
        list(StoriesReader([path]).runs())


def test_a_forgotten_user_is_in_no_story_no_event_and_no_free_space(tmp_path: Path) -> None:
    path = tmp_path / "stories.db"
    file = StoriesFile.open(path, run())
    # Debian's SQLite overwrites what it deletes; others do not.
    file._connection.execute("PRAGMA secure_delete = OFF")
    refused = replace(story("w2"), uid="carol", steps=((5.0, "refused", "other_user", "alice"),))
    joined = [Event(200.0, "app_joined", uid, {"label": "phone", "mode": "v2"}) for uid in ("alice", "carol")]
    write(file, 200.0, story("w1"), refused, events=(*joined,))
    write(file, 201.0, *(story(f"x{number}") for number in range(50)))
    assert file.forget("alice", "forgotten-1") == 52
    for one in tmp_path.iterdir():
        assert b"alice" not in one.read_bytes(), one.name
    (left,) = StoriesReader([path]).stories(0, 300)
    assert (left.id, left.uid, left.steps) == ("w2", "carol", ((5.0, "refused", "other_user", "forgotten-1"),))
    assert [event.about for event in StoriesReader([path]).events(["alice", "carol"], 0, 300)] == ["carol"]
    assert file.forget("alice", "forgotten-2") == 0
    file.close()
