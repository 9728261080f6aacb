import sqlite3
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tools.bench.measuring import Watch


def watch(folder: Path, promises: int, sessions: int, ended: int, waiting: int, *, tokens: bool) -> Watch:
    with closing(sqlite3.connect(folder / "ledger.db")) as ledger, ledger:
        for table, column in (("promises", "uid"), ("sessions", "ended"), ("outbox", "uid")):
            ledger.execute(f"CREATE TABLE {table} ({column} TEXT)")
        ledger.executemany("INSERT INTO promises VALUES (?)", [(str(number),) for number in range(promises)])
        ledger.executemany("INSERT INTO sessions VALUES (?)", [("app",)] * ended + [(None,)] * (sessions - ended))
        ledger.executemany("INSERT INTO outbox VALUES (?)", [("x",)] * waiting)
    running = SimpleNamespace(
        process=SimpleNamespace(pid=1), ledger=folder / "ledger.db", tokens={0: "t"} if tokens else {}
    )
    return Watch(cast("Any", None), cast("Any", running), (1, 1))


@pytest.mark.parametrize("tokens", [False, True])
def test_a_ledger_with_a_row_for_each_app_is_as_it_should_be(tmp_path: Path, tokens: bool) -> None:
    assert watch(tmp_path, 5, 5 if tokens else 0, 0, 0, tokens=tokens).ledger_faults(5) == []


def test_what_is_missing_or_too_much_is_told(tmp_path: Path) -> None:
    assert watch(tmp_path, 4, 5, 1, 1, tokens=True).ledger_faults(5) == [
        "ledger: 4 promises, not 5",
        "ledger: 1 ended sessions, not 0",
        "ledger: 1 log-outs, not 0",
    ]


def test_without_a_ledger_there_is_nothing_to_say() -> None:
    running = SimpleNamespace(process=SimpleNamespace(pid=1), ledger=None, tokens={})
    assert Watch(cast("Any", None), cast("Any", running), (1, 1)).ledger_faults(5) == []
