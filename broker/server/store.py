"""Retained messages and persistent sessions in one SQLite file; called from one thread at a time."""

import logging
import os
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from broker import files
from broker.server.journal import Batch, Message
from contract.errors import StartError

log = logging.getLogger(__name__)

NAME = "messages.db"
VERSION = 1

_SCHEMA = """
CREATE TABLE retained (topic TEXT PRIMARY KEY, data BLOB NOT NULL, qos INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE sessions (session INTEGER PRIMARY KEY, client_id TEXT NOT NULL, username TEXT, credential TEXT);
CREATE TABLE filters (session INTEGER, topic_filter TEXT, qos INTEGER NOT NULL,
    PRIMARY KEY (session, topic_filter)) WITHOUT ROWID;
CREATE TABLE messages (number INTEGER PRIMARY KEY, session INTEGER NOT NULL, packet_id INTEGER,
    released INTEGER NOT NULL, topic TEXT NOT NULL, qos INTEGER NOT NULL, data BLOB NOT NULL);
CREATE INDEX messages_of_session ON messages (session);
CREATE TABLE received (session INTEGER, packet_id INTEGER, PRIMARY KEY (session, packet_id)) WITHOUT ROWID;
"""
_KEYS = {
    "retained": ("topic",),
    "sessions": ("session",),
    "filters": ("session", "topic_filter"),
    "messages": ("number",),
    "received": ("session", "packet_id"),
}
_COLUMNS = {
    "retained": ("data", "qos"),
    "sessions": ("client_id", "username", "credential"),
    "filters": ("qos",),
    "messages": ("session", "packet_id", "released", "topic", "qos", "data"),
    "received": (),
}
_OWNED = ("sessions", "filters", "messages", "received")
"""Tables whose rows end with their session."""


def _put(table: str) -> str:
    names = _KEYS[table] + _COLUMNS[table]
    return f"REPLACE INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"  # noqa: S608  # ours


def _delete(table: str) -> str:
    return f"DELETE FROM {table} WHERE {' AND '.join(f'{name} = ?' for name in _KEYS[table])}"  # noqa: S608  # ours


_PUT = {table: _put(table) for table in _KEYS}
_DELETE = {table: _delete(table) for table in _KEYS}
_END = [f"DELETE FROM {table} WHERE session = ?" for table in _OWNED]  # noqa: S608  # ours


@dataclass(slots=True)
class StoredSession:
    """A persistent session as it was last saved.

    Attributes:
    messages: in order, each with whether a QoS 2 message was released.
    received: packet ids of QoS 2 messages that its client has begun to send.
    """

    number: int
    client_id: str
    username: str | None
    credential: str | None
    filters: list[tuple[str, int]] = field(default_factory=list)
    messages: list[tuple[Message, bool]] = field(default_factory=list)
    received: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Stored:
    """The content of a file: retained messages as (topic, data, QoS), sessions, and the highest numbers in use."""

    retained: list[tuple[str, bytes, int]]
    sessions: list[StoredSession]
    last_session: int
    last_message: int


class Store:
    """An open file, exclusive to this process until `close`; use `Store.open`."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    @classmethod
    def open(cls, path: Path) -> tuple[Self, Stored]:
        """Open or create the file, and read it; a damaged one is renamed, because the broker must start.

        Raises StartError if another broker uses it, a newer SARVIS wrote it, or it is unavailable.
        """
        files.make_folder(path.parent)
        try:
            return cls._open(path)
        except sqlite3.OperationalError as error:
            raise StartError(_why(path, error)) from error
        except sqlite3.DatabaseError as error:
            aside = _put_aside(path)
            log.error("messages_damaged file=%s reason=%r; begun anew, the old file is now %s", path, str(error), aside)
            return cls._open(path)

    @classmethod
    def _open(cls, path: Path) -> tuple[Self, Stored]:
        database = _opened(path)
        try:
            return cls(database), _load(database)
        except BaseException:
            database.close()
            raise

    def write(self, batch: Batch) -> None:
        """Write a batch, wholly or not at all; it is on disk when this returns. Raises sqlite3.Error."""
        with self._database:
            self._database.execute("BEGIN IMMEDIATE")
            for table, rows in batch.tables():
                self._database.executemany(_PUT[table], [key + row for key, row in rows.items() if row is not None])
                self._database.executemany(_DELETE[table], [key for key, row in rows.items() if row is None])
            for statement in _END:
                self._database.executemany(statement, [(session,) for session in batch.ended])

    def close(self) -> None:
        """Close the file."""
        self._database.close()


def _opened(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, files.SECRET))
    database = sqlite3.connect(path, timeout=1.0, isolation_level=None, check_same_thread=False)
    try:
        # Exclusive while this process runs: a second broker gets an error instead of mixing its sessions in.
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")  # acknowledged messages survive a power cut
        _migrate(database, path)
    except BaseException:
        database.close()
        raise
    return database


def _migrate(database: sqlite3.Connection, path: Path) -> None:
    database.execute("BEGIN IMMEDIATE")
    version = database.execute("PRAGMA user_version").fetchone()[0]
    if version not in (0, VERSION):
        raise StartError(
            f"{path} was written by a newer SARVIS; update this one, or move the file away: its retained messages "
            "and sessions are forgotten then"
        )
    if version == 0:
        for statement in _SCHEMA.split(";"):
            database.execute(statement)
        database.execute(f"PRAGMA user_version = {VERSION}")
    database.execute("COMMIT")


def _load(database: sqlite3.Connection) -> Stored:
    query = database.execute
    by_session = query("SELECT session, client_id, username, credential FROM sessions ORDER BY session")
    sessions = {row[0]: StoredSession(*row) for row in by_session}
    for session, topic_filter, qos in query("SELECT session, topic_filter, qos FROM filters"):
        sessions[session].filters.append((topic_filter, qos))
    for session, packet_id in query("SELECT session, packet_id FROM received"):
        sessions[session].received.append(packet_id)
    last_message = 0
    columns = "number, session, packet_id, released, topic, qos, data"
    for number, session, packet_id, released, topic, qos, data in query(
        f"SELECT {columns} FROM messages ORDER BY number"  # noqa: S608  # ours
    ):
        message = Message(packet_id, topic, qos, data, retain=False)
        message.number = last_message = number
        sessions[session].messages.append((message, bool(released)))
    return Stored(
        retained=query("SELECT topic, data, qos FROM retained").fetchall(),
        sessions=list(sessions.values()),
        last_session=max(sessions, default=0),
        last_message=last_message,
    )


def _put_aside(path: Path) -> Path:
    aside = path.with_name(f"{path.name}.damaged")
    with files.explained(path):
        path.replace(aside)
        for ending in ("-wal", "-shm"):
            path.with_name(path.name + ending).unlink(missing_ok=True)
    return aside


def _why(path: Path, error: sqlite3.Error) -> str:
    if error.sqlite_errorname.startswith("SQLITE_BUSY"):
        return (
            f"another running broker uses {path}; stop it, give this one another broker.dir, "
            "or store nothing with broker.persistence = false"
        )
    return f"{path} cannot be used: {error}; check the folder's rights and space, or set another broker.dir"
