"""The command `sarvis`: finds the rooms' commands and turns their errors into one line and an exit code."""

import sys
from importlib.metadata import entry_points, version
from typing import Annotated

import typer

from contract.errors import SarvisError
from sarvis.demo.cli import demo

GROUP = "sarvis.commands"


def main() -> None:
    """Run one command; exit codes: 0 fine, 1 it went wrong, 2 wrong usage, 3 could not start."""
    try:
        _build()(standalone_mode=True)
    except SarvisError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def _build() -> typer.Typer:
    app = typer.Typer(
        help="A Jetson hears «싸비스», and the right person's app knows it a few milliseconds later.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(_root)
    app.command()(demo)
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        app.add_typer(entry.load(), name=entry.name)
    return app


def _root(
    *,
    show_version: Annotated[bool, typer.Option("--version", help="print the version and exit", is_eager=True)] = False,
) -> None:
    if show_version:
        print(version("sarvis"))
        raise typer.Exit
