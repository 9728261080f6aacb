"""Decides which retained messages and sessions must be written to disk; no I/O.

Every change has a number. An answer to a change (PUBACK, SUBACK, ...) waits until all changes up to its number are
saved. A change that is undone between two saves costs no writing.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Key: TypeAlias = tuple[str | int, ...]
Row: TypeAlias = tuple[Any, ...]
Rows: TypeAlias = dict[Key, Row | None]
"""By primary key, the rest of the row; None deletes the row."""


@dataclass(slots=True, eq=False)
class Message:
    """A message to one client.

    Attributes:
    packet_id: None while it waits for an absent client.
    released: the client has received this QoS 2 message, and must get PUBREL.
    number: its row while it is stored.
    """

    packet_id: int | None
    topic: str
    qos: int
    data: bytes
    retain: bool
    released: bool = False
    number: int | None = None


@dataclass(slots=True)
class Batch:
    """The content of one transaction.

    Attributes:
    retained: (topic) -> (data, qos).
    sessions: (session) -> (client_id, username, credential).
    filters: (session, topic_filter) -> (qos).
    messages: (number) -> (session, packet_id or None, released, topic, qos, data).
    received: (session, packet_id) -> ().
    ended: sessions that end, with all their rows.
    upto: the number of the last change in it.
    first_message: messages from this number on were never written before.
    """

    retained: Rows = field(default_factory=dict)
    sessions: Rows = field(default_factory=dict)
    filters: Rows = field(default_factory=dict)
    messages: Rows = field(default_factory=dict)
    received: Rows = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    upto: int = 0
    first_message: int = 0

    def tables(self) -> Iterable[tuple[str, Rows]]:
        """The rows by table, without `ended`, whose rows are deleted last."""
        for name in ("retained", "sessions", "filters", "messages", "received"):
            yield name, getattr(self, name)


class Journal:
    """Collects changes into the next batch; sessions and messages get numbers that are never used twice.

    Attributes:
    changes: how many there were.
    saved: changes up to this one were written, or the writer has given up waiting for them.
    on_change: called when there is something to write again.
    """

    def __init__(self, last_session: int = 0, last_message: int = 0) -> None:
        self.on_change: Callable[[], None] = lambda: None
        self.changes = 0
        self.saved = 0
        self._last_session = last_session
        self._last_message = last_message
        self._batch = Batch(first_message=last_message + 1)

    def take(self) -> Batch | None:
        """The next batch to write; None if nothing changed."""
        if self._batch.upto == 0:
            return None
        batch, self._batch = self._batch, Batch(first_message=self._last_message + 1)
        return batch

    def put_back(self, batch: Batch) -> None:
        """A batch could not be written: merge it into the next one, where newer changes win."""
        for name, rows in batch.tables():
            rows.update(getattr(self._batch, name))
            setattr(self._batch, name, rows)
        self._batch.ended |= batch.ended
        self._batch.first_message = batch.first_message
        self._changed()

    def retain(self, topic: str, kept: tuple[bytes, int] | None) -> None:
        """Set or delete the retained message (data, QoS) of a topic."""
        self.change("retained", (topic,), kept)

    def session(self) -> "Notes":
        """The notes of a new persistent session."""
        self._last_session += 1
        return Notes(self, self._last_session)

    def known(self, session: int) -> "Notes":
        """The notes of a session that was read from disk."""
        return Notes(self, session)

    def change(self, table: str, key: Key, row: Row | None) -> None:
        """Set a row; None deletes it."""
        getattr(self._batch, table)[key] = row
        self._changed()

    def keep(self, session: int, message: Message, *, released: bool) -> None:
        """Set a message; the first time gives it its number."""
        if message.number is None:
            self._last_message += 1
            message.number = self._last_message
        row = (session, message.packet_id, released, message.topic, message.qos, bytes(message.data))
        self.change("messages", (message.number,), row)

    def drop(self, message: Message) -> None:
        """Delete a message; one that was in no batch is never written."""
        if message.number is None:
            return
        if message.number >= self._batch.first_message:
            self._batch.messages.pop((message.number,), None)
            self._changed()
        else:
            self.change("messages", (message.number,), None)
        message.number = None

    def end(self, session: int) -> None:
        """A session is deleted, with all its rows."""
        self._batch.ended.add(session)
        self._changed()

    def _changed(self) -> None:
        self.changes += 1
        if not self._batch.upto:
            self.on_change()
        self._batch.upto = self.changes


class Notes:
    """What is stored for one persistent session; nothing after `end`."""

    def __init__(self, journal: Journal, number: int) -> None:
        self._journal = journal
        self._number = number
        self._told: Row | None = None
        self._ended = False

    def owner(self, client_id: str, username: str | None, credential: str | None) -> None:
        """Set the owner; an equal value is no change."""
        told = (client_id, username, credential)
        if told != self._told:
            self._told = told
            self._set("sessions", (self._number,), told)

    def subscribe(self, topic_filter: str, qos: int) -> None:
        """The session subscribes to a filter with this QoS."""
        self._set("filters", (self._number, topic_filter), (qos,))

    def unsubscribe(self, topic_filter: str) -> None:
        """The session unsubscribes from a filter."""
        self._set("filters", (self._number, topic_filter), None)

    def keep(self, message: Message, *, released: bool = False) -> None:
        """A message waits for the client or its acknowledgement; `released`: a QoS 2 message that the client has."""
        if not self._ended:
            self._journal.keep(self._number, message, released=released)

    def drop(self, message: Message) -> None:
        """A message is done, or was dropped."""
        if not self._ended:
            self._journal.drop(message)

    def received(self, packet_id: int) -> None:
        """A QoS 2 message came from the client, and must not be routed twice."""
        self._set("received", (self._number, packet_id), ())

    def completed(self, packet_id: int) -> None:
        """That packet id may be used again."""
        self._set("received", (self._number, packet_id), None)

    def end(self) -> None:
        """The session is deleted."""
        if not self._ended:
            self._ended = True
            self._journal.end(self._number)

    def _set(self, table: str, key: Key, row: Row | None) -> None:
        if not self._ended:
            self._journal.change(table, key, row)
