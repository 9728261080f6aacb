import pytest
from rich.console import Console
from rich.table import Table

from infra.cli_output import say_table, say_wrapped_table

FOREIGN = ("mqtt://[fd00::1]:1883", "[/srv/sarvis]", "[red]not red", ":key:")
"""Texts in which Rich would find markup or a picture."""


def wide(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))


def test_columns_are_aligned_by_what_a_terminal_shows(capsys: pytest.CaptureFixture[str]) -> None:
    say_table(("DEVICE", "USER"), [("jetson-1", "영희"), ("싸비스", "bob")])
    assert capsys.readouterr().out == "DEVICE    USER\njetson-1  영희\n싸비스    bob\n"


def test_a_long_cell_of_a_plain_table_stays_on_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    say_table(("SESSION",), [("x" * 300,)])
    assert capsys.readouterr().out.splitlines() == ["SESSION", "x" * 300]


def test_what_a_cell_says_is_never_taken_for_markup(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wide(monkeypatch, 200)
    say_wrapped_table(("", "what"), [(("fine", "green"), text) for text in FOREIGN], padding=(0, 1, 0, 1))
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.split(maxsplit=1)[1].rstrip() for line in lines] == list(FOREIGN)


def test_a_wrapped_table_looks_as_one_of_rich(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wide(monkeypatch, 40)
    rows = [("fine", "the clock", "a sentence that is longer than its column"), ("", "싸비스", "")]
    say_wrapped_table(("", "what", "found"), rows, padding=(0, 1, 0, 1))
    ours = capsys.readouterr().out
    table = Table("", "what", "found", box=None, show_edge=False)
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    assert ours == capsys.readouterr().out
    assert len(ours.splitlines()) > 1 + len(rows)
