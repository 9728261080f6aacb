from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from broker.server.journal import Batch, Journal, Message, Notes


def message(topic: str = "m", packet_id: int | None = None, qos: int = 1) -> Message:
    return Message(packet_id, topic, qos, b"x", retain=False)


def taken(journal: Journal) -> Batch:
    batch = journal.take()
    assert batch is not None
    return batch


def test_nothing_changed_is_nothing_to_write() -> None:
    assert Journal().take() is None


def test_the_last_of_several_retained_messages_is_written() -> None:
    journal = Journal()
    journal.retain("t", (b"1", 1))
    journal.retain("t", (b"2", 0))
    journal.retain("gone", None)
    batch = taken(journal)
    assert batch.retained == {("t",): (b"2", 0), ("gone",): None}
    assert batch.upto == journal.changes == 3
    assert journal.take() is None


def test_a_message_acknowledged_before_it_was_written_is_never_written() -> None:
    journal = Journal()
    notes, kept = journal.session(), message()
    notes.keep(kept)
    notes.drop(kept)
    assert taken(journal).messages == {}


def test_a_message_that_a_batch_has_seen_is_deleted() -> None:
    journal = Journal(last_message=7)
    notes, kept = journal.session(), message(packet_id=3)
    notes.keep(kept)
    assert taken(journal).messages == {(8,): (1, 3, False, "m", 1, b"x")}
    notes.drop(kept)
    assert taken(journal).messages == {(8,): None}


def test_what_could_not_be_written_comes_with_the_next_batch_and_newer_changes_win() -> None:
    journal = Journal()
    notes, early, late = journal.session(), message("early"), message("late")
    notes.keep(early)
    journal.retain("t", (b"old", 1))
    failed = taken(journal)
    notes.drop(early)
    notes.keep(late)
    journal.retain("t", (b"new", 1))
    journal.put_back(failed)
    notes.drop(late)
    again = taken(journal)
    assert again.retained == {("t",): (b"new", 1)}
    assert again.messages == {(1,): None}
    assert again.upto == journal.changes


def test_an_ended_session_wants_nothing_remembered() -> None:
    journal = Journal()
    notes, kept = journal.session(), message()
    notes.owner("c", None, "")
    notes.keep(kept)
    taken(journal)
    notes.end()
    notes.end()
    notes.keep(kept)
    notes.drop(kept)
    notes.subscribe("a", 1)
    batch = taken(journal)
    assert batch.ended == {1}
    assert [rows for _, rows in batch.tables()] == [{}] * 5


def test_the_same_owner_again_is_no_change() -> None:
    journal = Journal()
    notes = journal.session()
    notes.owner("c", "u", "p")
    taken(journal)
    notes.owner("c", "u", "p")
    assert journal.take() is None
    notes.owner("c", "u", "other")
    assert taken(journal).sessions == {(1,): ("c", "u", "other")}


def test_sessions_and_messages_go_on_counting_where_the_store_ended() -> None:
    journal = Journal(last_session=4, last_message=9)
    kept = message()
    journal.session().keep(kept)
    assert kept.number == 10
    assert taken(journal).messages[10,] == (5, None, False, "m", 1, b"x")


def test_a_change_is_announced_once_until_it_is_taken() -> None:
    journal, told = Journal(), []
    journal.on_change = lambda: told.append(journal.changes)
    journal.retain("a", None)
    journal.retain("b", None)
    taken(journal)
    journal.retain("c", None)
    assert told == [1, 3]


OPERATIONS = st.lists(st.sampled_from(["retain", "clear", "keep", "drop", "take", "fail"]), max_size=60)


def write(disk: dict[Any, Any], batch: Batch | None) -> None:
    """What a store does with a batch."""
    for name, rows in batch.tables() if batch is not None else ():
        for key, row in rows.items():
            disk[name, *key] = row


@given(OPERATIONS)
def test_batches_one_after_the_other_give_what_is_in_memory(operations: list[str]) -> None:
    journal = Journal()
    notes: Notes = journal.session()
    disk: dict[Any, Any] = {}
    retained: tuple[bytes, int] | None = None
    kept: list[Message] = []
    for number, operation in enumerate(operations):
        match operation:
            case "retain" | "clear":
                retained = (str(number).encode(), 1) if operation == "retain" else None
                journal.retain("t", retained)
            case "keep":
                kept.append(message(str(number)))
                notes.keep(kept[-1])
            case "drop" if kept:
                notes.drop(kept.pop(0))
            case "take":
                write(disk, journal.take())
            case "fail" if (batch := journal.take()) is not None:
                journal.put_back(batch)
    write(disk, journal.take())
    memory: dict[Any, Any] = {("messages", each.number): (1, None, False, each.topic, 1, b"x") for each in kept}
    memory["retained", "t"] = retained
    assert {key: row for key, row in disk.items() if row is not None} == {
        key: row for key, row in memory.items() if row is not None
    }
