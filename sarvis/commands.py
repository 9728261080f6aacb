"""Runs one command and turns its errors into one line and an exit code."""

import sys

from contract.errors import SarvisError
from infra import terminal
from sarvis.version import say_version

VERSION = ["--version"]


def run() -> int:
    """Run the command in the arguments of this process; returns its exit code, see `sarvis.cli`."""
    try:
        if sys.argv[1:] == VERSION:
            say_version()
        else:
            from sarvis import roof  # noqa: PLC0415 - the version needs no command line

            roof.command()(prog_name="sarvis")
    except SystemExit as ended:
        return _code_of(ended)
    except SarvisError as error:
        from infra.redaction import redact  # noqa: PLC0415 - only errors quote what libraries were given

        print(f"error: {redact(str(error))}", file=sys.stderr)
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - Python would print it with all that it quotes
        if error is terminal.output_problem():
            return 0  # reported below
        terminal.tell_failure(error)
        return 1
    return 0


def _code_of(ended: SystemExit) -> int:
    if isinstance(ended.code, int):
        return ended.code
    if ended.code is not None:
        print(ended.code, file=sys.stderr)
    return 0 if ended.code is None else 1
