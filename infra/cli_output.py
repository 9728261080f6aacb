"""Prints JSON and tables for commands that people run, and defines the options that these share."""

import json
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any

import typer

Config = Annotated[Path | None, typer.Option(help="settings file instead of ./sarvis.toml")]
StoreUrl = Annotated[str | None, typer.Option(help="the ledger, sqlite:///PATH")]
AsJson = Annotated[bool, typer.Option("--json", help="print one JSON document")]
Most = Annotated[int, typer.Option(min=1, max=1_000_000, help="at most this many of each kind")]


def say_json(document: dict[str, Any]) -> None:
    """Print one JSON document."""
    typer.echo(json.dumps(document, ensure_ascii=False, indent=2))


def say_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print aligned columns; a line is as long as its cells, a terminal may wrap it."""
    from rich.cells import cell_len  # noqa: PLC0415 commands without a table start sooner

    table = [head, *rows]
    widths = [max(map(cell_len, column)) for column in zip_longest(*table, fillvalue="")]
    for row in table:
        # Hangul is two cells wide, so pad by cells, not by characters.
        cells = [text + " " * (width - cell_len(text)) for text, width in zip(row, widths, strict=True)]
        typer.echo("  ".join(cells).rstrip())


def say_wrapped_table(
    head: Sequence[str], rows: Iterable[Sequence[str | tuple[str, str]]], *, padding: tuple[int, int, int, int]
) -> None:
    """Print columns of sentences, wrapped inside their cells at the terminal's width.

    A cell is a text, or a text and its colour. Markup in a text is not interpreted: an address may have brackets.
    """
    from rich.console import Console  # noqa: PLC0415 commands without such a table start sooner
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(*head, box=None, show_edge=False, padding=padding)
    for row in rows:
        table.add_row(*(Text(cell) if isinstance(cell, str) else Text(cell[0], cell[1]) for cell in row))
    Console().print(table)


def first(rows: Sequence[Any], most: int, what: str) -> list[Any]:
    """The first `most` of `most + 1` rows that were read; reports on standard error if there are more."""
    if len(rows) > most:
        typer.echo(f"only {most} {what} are shown; show more with --most", err=True)
    return list(rows[:most])
