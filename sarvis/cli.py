"""The command `sarvis`: finds the rooms' commands and turns their errors into one line and an exit code."""

import sys
from importlib.metadata import EntryPoint, entry_points, version
from typing import Annotated

import typer

from contract import terminal
from contract.errors import SarvisError, StartError
from contract.redaction import redact
from sarvis.backup.cli import backup, restore
from sarvis.demo.cli import demo
from sarvis.doctor import doctor

GROUP = "sarvis.commands"

HELP = {
    "app": "The app in a terminal.",
    "bridge": "MQTT to app pushes, the sessions, the HTTP contract.",
    "broker": "The embedded MQTT broker.",
    "certs": "Certificates for the broker and its clients.",
    "device": "Add, list and remove devices.",
    "edge": "The node on the Jetson.",
    "fleet": "Many simulated devices and apps, for load and for your eyes.",
    "token": "Tokens for apps, keys for HTTP callers and operators.",
    "sessions": "Who is logged in where; log somebody out.",
    "wakeword": "Teach a node your voice; make a wake-word model, and judge with it.",
}


def main() -> None:
    """Run one command; exit codes: 0 fine, 1 it went wrong, 2 wrong usage, 3 could not start."""
    terminal.prepare()
    rooms = {entry.name: entry for entry in entry_points(group=GROUP)}
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    try:
        # A room is loaded only when it is called: a bridge needs no audio libraries, and everything starts faster.
        if name in rooms:
            _load(rooms[name])(args=sys.argv[2:], prog_name=f"sarvis {name}")
        else:
            _roof(sorted(rooms))(prog_name="sarvis")
    except SarvisError as error:
        print(f"error: {redact(str(error))}", file=sys.stderr)
        sys.exit(error.exit_code)
    except Exception as error:  # noqa: BLE001 - Python would print it with all that it quotes
        terminal.tell_failure(error)
        sys.exit(1)


def _load(entry: EntryPoint) -> typer.Typer:
    try:
        app = entry.load()
    except ModuleNotFoundError as error:
        raise StartError(
            f"sarvis {entry.name} needs {error.name}, which is not installed: pip install 'sarvis[edge]'"
        ) from None
    assert isinstance(app, typer.Typer)  # noqa: S101 - our own entry points
    app.pretty_exceptions_enable = False
    return app


def _roof(rooms: list[str]) -> typer.Typer:
    app = typer.Typer(
        help="A Jetson hears «싸비스», and the right person's app knows it a few milliseconds later.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(_options)
    app.command()(demo)
    app.command()(doctor)
    app.command()(backup)
    app.command()(restore)
    for name in rooms:
        # Only for the list: `main` has already taken the rooms' own calls.
        app.command(name, help=HELP.get(name))(lambda: None)
    return app


def _say_version(shown: bool) -> None:
    if shown:
        print(version("sarvis"))
        raise typer.Exit


def _options(
    *,
    show_version: Annotated[
        bool, typer.Option("--version", help="print the version and exit", callback=_say_version)
    ] = False,
) -> None:
    pass
