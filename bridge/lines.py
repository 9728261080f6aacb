"""What the operator's commands share: their options, and tables that nothing cuts off."""

import json
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.cells import cell_len

Config = Annotated[Path | None, typer.Option(help="settings file instead of ./sarvis.toml")]
StoreUrl = Annotated[str | None, typer.Option(help="the ledger, sqlite:///PATH")]
AsJson = Annotated[bool, typer.Option("--json", help="print one JSON document")]
Most = Annotated[int, typer.Option(min=1, max=1_000_000, help="at most so many of each kind")]


def say_json(document: dict[str, Any]) -> None:
    """Print one JSON document."""
    typer.echo(json.dumps(document, ensure_ascii=False, indent=2))


def say_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print aligned columns; a line is as long as its cells, a terminal may wrap it."""
    table = [head, *rows]
    widths = [max(map(cell_len, column)) for column in zip_longest(*table, fillvalue="")]
    for row in table:
        # Hangul is two cells wide: padded by what a terminal shows, not by characters.
        cells = [text + " " * (width - cell_len(text)) for text, width in zip(row, widths, strict=True)]
        typer.echo("  ".join(cells).rstrip())


def first(rows: Sequence[Any], most: int, what: str) -> list[Any]:
    """At most so many of `most + 1` rows that were asked for; says on standard error when there are more."""
    if len(rows) > most:
        typer.echo(f"there are more {what} than these {most}: --most shows more", err=True)
    return list(rows[:most])
