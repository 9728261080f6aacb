"""The stories' file, an SQLite database: written by one thread of each bridge, read by the operator's commands.

The stories of half a second are one row, because an insert for each of them would cost more than the wake itself. A
wake is found by reading the rows back from the newest: a hundred thousand stories take less than a second.
"""

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import astuple, replace

from bridge.stories.records import DeviceState, Event, Run, Story, StoryFields, forgotten
from contract.errors import SarvisError
from infra.files import give_like, make_folder

MOST_STORIES = 100_000
MOST_EVENTS = 200_000
DAY_S = 86_400.0
BUSY_S = 5.0
APPLICATION_ID = 0x53525654
"""«SRVT», beside the ledger's «SRVS»."""
VERSION = 1

_SCHEMA = """
CREATE TABLE runs (number INTEGER PRIMARY KEY, bridge TEXT NOT NULL, began REAL NOT NULL, written REAL NOT NULL,
    ended REAL, version TEXT NOT NULL, pushes INTEGER NOT NULL);
CREATE TABLE chunks (number INTEGER PRIMARY KEY, bridge TEXT NOT NULL, at REAL NOT NULL, count INTEGER NOT NULL,
    stories BLOB NOT NULL);
CREATE INDEX chunks_at ON chunks (at);
CREATE TABLE events (number INTEGER PRIMARY KEY, bridge TEXT NOT NULL, at REAL NOT NULL, kind TEXT NOT NULL,
    about TEXT NOT NULL, told TEXT NOT NULL);
CREATE INDEX events_about ON events (about, at);
CREATE INDEX events_at ON events (at);
CREATE TABLE devices (device_id TEXT PRIMARY KEY, told TEXT NOT NULL);
"""
_encode = msgspec.json.Encoder().encode
_encode_stories = msgspec.msgpack.Encoder().encode
_stories = msgspec.msgpack.Decoder(list[Story]).decode
_state = msgspec.json.Decoder(DeviceState).decode
_told = msgspec.json.Decoder(dict[str, Any]).decode


def decoded(chunk: bytes) -> list[Story]:
    """The stories of such a row."""
    return _stories(chunk)


class StoriesError(SarvisError):
    """The stories' file cannot be used."""


def encoded(stories: Sequence[Story | StoryFields]) -> bytes:
    """One row of stories."""
    return _encode_stories(stories)


class StoriesFile:
    """The file to write, used by one thread. Methods raise sqlite3.Error."""

    def __init__(self, connection: sqlite3.Connection, run: int, bridge: str) -> None:
        self._connection = connection
        self._run = run
        self._bridge = bridge

    @classmethod
    def open(cls, path: Path, run: Run) -> "StoriesFile":
        """Open or create it, and begin a run; raises StoriesError for a file of others, sqlite3.Error, OSError."""
        make_folder(path.parent)
        _make(path)
        connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            _prepare(path, connection)
            row = (run.bridge, run.began, run.written, run.version, run.pushes)
            number = connection.execute(
                "INSERT INTO runs (bridge, began, written, version, pushes) VALUES (?, ?, ?, ?, ?)", row
            ).lastrowid
        except BaseException:
            connection.close()
            raise
        return cls(connection, number or 0, run.bridge)

    @classmethod
    def of_stopped(cls, path: Path) -> "StoriesFile":
        """One that is there, of a bridge that does not run, to `forget` only; no run begins. As `open` else."""
        connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
        try:
            _prepare(path, connection)
        except BaseException:
            connection.close()
            raise
        return cls(connection, 0, "")

    def devices(self) -> list[DeviceState]:
        """The last known state of each device."""
        return [_state(told) for (told,) in self._connection.execute("SELECT told FROM devices")]

    def write(
        self,
        at: float,
        chunks: Iterable[tuple[float, int, bytes]],
        events: Iterable[Event],
        states: Iterable[DeviceState],
    ) -> None:
        """Write all of it or nothing; then all that was handed over before `at` is in the file.

        Chunks are (Unix time, number of stories, `encoded`).
        """
        with self._transaction() as connection:
            connection.executemany(
                "INSERT INTO chunks (bridge, at, count, stories) VALUES (?, ?, ?, ?)",
                [(self._bridge, *chunk) for chunk in chunks],
            )
            connection.executemany(
                "INSERT INTO events (bridge, at, kind, about, told) VALUES (?, ?, ?, ?, ?)",
                [(self._bridge, event.at, event.kind, event.about, _encode(event.told).decode()) for event in events],
            )
            connection.executemany(
                "INSERT OR REPLACE INTO devices (device_id, told) VALUES (?, ?)",
                [(state.device_id, _encode(state).decode()) for state in states],
            )
            connection.execute("UPDATE runs SET written = ? WHERE number = ?", (at, self._run))

    def prune(self, now: float, days: float) -> None:
        """Delete what is older than `days`, and the oldest of too many."""
        with self._transaction() as connection:
            since = now - days * DAY_S
            for table in ("chunks", "events"):
                connection.execute(f"DELETE FROM {table} WHERE at < ?", (since,))  # noqa: S608 - two names above
            connection.execute("DELETE FROM runs WHERE written < ? AND number <> ?", (since, self._run))
            counted = connection.execute("SELECT number, count FROM chunks ORDER BY number DESC")
            total = 0
            for number, count in counted:
                total += count
                if total > MOST_STORIES:
                    connection.execute("DELETE FROM chunks WHERE number <= ?", (number,))
                    break
            connection.execute(
                "DELETE FROM events WHERE number <= (SELECT max(number) FROM events) - ?", (MOST_EVENTS,)
            )

    def forget(self, uid: str, name: str) -> int:
        """Delete the user's stories and events, also from free space; returns how many there were.

        `name` stands in the place of the user in the stories of others. Another process that reads the file at this
        moment makes it raise StoriesError: then the log still has them.
        """
        count = 0
        with self._transaction() as connection:
            rows = connection.execute("SELECT number, stories FROM chunks").fetchall()
            for number, blob in rows:
                before = _stories(blob)
                after = [_without(story, uid, name) for story in before if story.uid != uid]
                if after == before:
                    continue
                count += len(before) - len(after)
                if not after:
                    connection.execute("DELETE FROM chunks WHERE number = ?", (number,))
                    continue
                connection.execute(
                    "UPDATE chunks SET count = ?, stories = ? WHERE number = ?",
                    (len(after), encoded([_fields(story) for story in after]), number),
                )
            count += connection.execute("DELETE FROM events WHERE about = ?", (uid,)).rowcount
        self._connection.execute("VACUUM")
        busy, *_ = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise StoriesError("another process reads their file; try again")
        return count

    def end(self, at: float) -> None:
        """The bridge ends in order."""
        self._connection.execute("UPDATE runs SET written = ?, ended = ? WHERE number = ?", (at, at, self._run))

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield self._connection
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise


def _without(story: Story, uid: str, name: str) -> Story:
    steps = tuple(forgotten(tuple(step), uid, name) for step in story.steps)
    return replace(story, steps=steps) if steps != tuple(map(tuple, story.steps)) else story


def _fields(story: Story) -> StoryFields:
    return astuple(story)[:-1]


class StoriesReader:
    """The files of one or several bridges, only to read. Methods raise StoriesError."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = list(paths)

    def stories(self, since: float, until: float) -> Iterator[Story]:
        """Stories with news in this time (Unix time), newest first; of each only the last version of each bridge."""
        return (story for _, story in self.written(since, until))

    def written(self, since: float, until: float) -> Iterator[tuple[float, Story]]:
        """As `stories`, each with the time of its news; no wake came after the news of it."""
        known: set[tuple[str, str]] = set()
        query = "SELECT at, bridge, stories FROM chunks WHERE at >= ? AND at <= ? ORDER BY at DESC, number DESC"
        for at, bridge, blob in self._rows(query, (since, until)):
            for story in reversed(_stories(blob)):
                if (story.id, bridge) not in known:
                    known.add((story.id, bridge))
                    story.bridge = bridge
                    yield at, story

    def events(self, about: Iterable[str], since: float, until: float) -> list[Event]:
        """Events about these, oldest first."""
        found = []
        query = "SELECT at, kind, about, told FROM events WHERE about = ? AND at >= ? AND at <= ?"
        for name in dict.fromkeys(about):
            found += [
                Event(at, kind, who, _told(told)) for at, kind, who, told in self._rows(query, (name, since, until))
            ]
        return sorted(found, key=lambda event: event.at)

    def devices(self) -> dict[str, DeviceState]:
        """The last known state of each device; with several bridges that of the one which saw it last."""
        found: dict[str, DeviceState] = {}
        for (told,) in self._rows("SELECT told FROM devices", ()):
            state = _state(told)
            other = found.get(state.device_id)
            if other is None or (state.seen or 0.0) >= (other.seen or 0.0):
                found[state.device_id] = state
        return found

    def runs(self) -> list[Run]:
        """All runs that are still known, the oldest first."""
        rows = self._rows("SELECT bridge, began, written, ended, version, pushes FROM runs", ())
        found = [
            Run(bridge, began, written, ended, version, bool(pushes))
            for bridge, began, written, ended, version, pushes in rows
        ]
        return sorted(found, key=lambda run: run.began)

    def _rows(self, query: str, values: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
        for path in self._paths:
            try:
                with closing(_to_read(path)) as connection:
                    yield from connection.execute(query, values)
            except sqlite3.Error as error:
                raise StoriesError(f"the stories in {path} cannot be read: {error}") from None


def check(path: Path) -> None:
    """Raises StoriesError, with what to do, if there is no such file."""
    if not path.exists():
        raise StoriesError(
            f"there are no stories at {path}: a bridge writes them there while bridge.stories_days is above 0; if it "
            f"runs with other settings, name them with --config, or the file with --stories"
        )
    try:
        with closing(_to_read(path)) as connection:
            found = _version(connection)
    except sqlite3.Error as error:
        raise StoriesError(f"the stories in {path} cannot be read: {error}") from None
    if found != (APPLICATION_ID, VERSION):
        raise StoriesError(f"{path} is no file of stories of this version; name another with --stories")


def _to_read(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_S)


def _make(path: Path) -> None:
    """Readable by its owner only: it shows who was called when."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        give_like(path.parent, descriptor)
    finally:
        os.close(descriptor)


def _prepare(path: Path, connection: sqlite3.Connection) -> None:
    # In the log, a commit waits for no disk; after a power cut the file is whole, and lacks the last seconds.
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    has_tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if has_tables:
        if _version(connection) != (APPLICATION_ID, VERSION):
            raise StoriesError(f"{path} is no file of stories of this version; name another in bridge.stories_file")
        return
    script = (
        f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; COMMIT"
    )
    connection.executescript(script)


def _version(connection: sqlite3.Connection) -> tuple[int, int]:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return application, version
