from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.storage.memory import Tables
from bridge.storage.records import (
    Audit,
    Change,
    Departed,
    Device,
    DurableDeadline,
    PendingLogout,
    PushSubscription,
    Session,
    SessionEnd,
    Settled,
    Unsubscribed,
)
from bridge.storage.sql.batches import batches_of
from bridge.storage.store import StoreError
from tests.support.changes import CHANGES


def one_device(number: int) -> list[Change]:
    """Another user logs in on a device."""
    device = f"d{number}"
    old, new = Session(f"old-{number}", device, "alice", 1), Session(f"new-{number}", device, "bob", 3)
    return [
        Device(device, generation=2),
        replace(old, ended="replaced"),
        Audit("then", "ended", old.session_id, device, "alice", "replaced"),
        PendingLogout(f"c{number}", old.session_id, device, "alice", 2, "replaced", "then"),
        Device(device, generation=3),
        new,
        Audit("then", "opened", new.session_id, device, "bob", "app"),
    ]


def test_the_same_change_of_many_devices_is_as_many_batches_as_of_one() -> None:
    of_one = batches_of(one_device(0))
    of_many = batches_of(change for number in range(100) for change in one_device(number))
    assert [type(batch[0]) for batch in of_many] == [Device, Session, Audit, PendingLogout, Session]
    assert [len(batch) for batch in of_many] == [100, 100, 200, 100, 100]
    assert [type(batch[0]) for batch in of_one] == [type(batch[0]) for batch in of_many]


def test_of_a_device_only_the_last_row_is_written() -> None:
    rows = [Device("d0", boot=1), Device("d1"), Device("d0", boot=2)]
    assert batches_of(rows) == [[rows[2], rows[1]]]


def test_each_batch_is_of_one_kind_and_sessions_that_end_have_one_reason() -> None:
    why: tuple[SessionEnd, ...] = ("app", "http", "app")
    ended = [Session(f"s{number}", f"d{number}", "u", 1, reason) for number, reason in enumerate(why)]
    assert batches_of(ended) == [[ended[0], ended[2]], [ended[1]]]
    assert batches_of([Unsubscribed("u"), Unsubscribed("u", "x")]) == [[Unsubscribed("u")], [Unsubscribed("u", "x")]]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(
            [DurableDeadline("u", 1.0), Departed("u", 1.5, "app"), DurableDeadline("u", 2.0)], id="a user who is back"
        ),
        pytest.param(
            [
                PendingLogout("c1", "s", "d", "u", 1, "app", "then"),
                Settled("d", "s"),
                PendingLogout("c2", "s", "d", "u", 1, "app", "then"),
            ],
            id="a log-out that is queued again",
        ),
        pytest.param(
            [PushSubscription("u", "x", "p", "a"), Unsubscribed("u"), PushSubscription("v", "x", "p", "a")],
            id="a phone that changes hands",
        ),
        pytest.param(
            [Session("s", "d", "u", 1), Session("s", "d", "u", 1, "app"), Session("t", "d", "u", 1)],
            id="a device that is free again",
        ),
    ],
)
def test_what_happens_to_one_thing_keeps_its_order(changes: list[Change]) -> None:
    assert [change for batch in batches_of(changes) for change in batch] == changes


@settings(max_examples=200, deadline=None)
@given(st.lists(CHANGES, max_size=12), st.lists(CHANGES, max_size=12))
def test_batches_leave_what_single_changes_leave(before: list[Change], changes: list[Change]) -> None:
    single, together = Tables(), Tables()
    for change in before:
        for tables in (single, together):
            _applies(tables, [change])
    outcomes = [
        _applies(single, changes),
        _applies(together, [change for batch in batches_of(changes) for change in batch]),
    ]
    assert outcomes[0] == outcomes[1]
    if outcomes[0]:
        assert together == single
        assert list(together.pending) == list(single.pending)


def _applies(tables: Tables, changes: list[Change]) -> bool:
    try:
        for change in changes:
            tables.apply(change)
    except StoreError:
        return False
    return True
