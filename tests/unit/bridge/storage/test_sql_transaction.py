from dataclasses import fields
from typing import Any

import pytest
from sqlalchemy import Row, Table, create_engine, select

from bridge.storage.records import (
    ApiKey,
    Audit,
    Device,
    DurableDeadline,
    Missed,
    PendingLogout,
    PushSubscription,
    Session,
)
from bridge.storage.sql.schema import (
    API_KEYS,
    AUDIT,
    DEVICES,
    METADATA,
    MISSED,
    OUTBOX,
    PROMISES,
    PUSH_SUBSCRIPTIONS,
    SESSIONS,
)
from bridge.storage.sql.transaction import record

TABLES: list[tuple[type, Table]] = [
    (Device, DEVICES),
    (Session, SESSIONS),
    (PendingLogout, OUTBOX),
    (DurableDeadline, PROMISES),
    (Missed, MISSED),
    (PushSubscription, PUSH_SUBSCRIPTIONS),
    (Audit, AUDIT),
    (ApiKey, API_KEYS),
]


def rows(table: Table, *queries: Any) -> list[Row[Any]]:
    """A row in which each column has a value of its own, as each query reads it."""
    engine = create_engine("sqlite://")
    try:
        with engine.begin() as connection:
            METADATA.create_all(connection)
            values = {column.name: _value(column, number) for number, column in enumerate(table.columns, 1)}
            connection.execute(table.insert(), values)
            return [connection.execute(query).one() for query in queries]
    finally:
        engine.dispose()


def _value(column: Any, number: int) -> Any:
    kind = column.type.python_type
    if kind is bool:
        return True
    return kind(number) if kind in {int, float} else f"{column.name} {number}"


@pytest.mark.parametrize(("kind", "table"), TABLES, ids=[kind.__name__ for kind, _ in TABLES])
def test_a_row_is_read_by_the_names_of_its_columns_in_any_order(kind: Any, table: Table) -> None:
    columns = list(table.columns)
    shuffled = [*columns[1::2], *reversed(columns[::2])]
    in_order, in_disorder = rows(table, select(table), select(*shuffled))
    assert tuple(in_order) != tuple(in_disorder)
    expected = {field.name: in_order._mapping[field.name] for field in fields(kind)}
    for row in (in_order, in_disorder):
        found = record(kind, row)
        assert {field.name: getattr(found, field.name) for field in fields(found)} == expected


def test_a_row_without_a_column_of_its_record_is_an_error() -> None:
    (row,) = rows(SESSIONS, select(SESSIONS.c.session_id, SESSIONS.c.device_id, SESSIONS.c.uid, SESSIONS.c.generation))
    with pytest.raises(KeyError):
        record(Session, row)
