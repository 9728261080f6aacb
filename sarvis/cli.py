"""The command `sarvis`: sets up streams and signals before it imports libraries; then runs the command.

Exit codes: 0 success, 1 failure, 2 wrong usage, 3 could not start; 128 plus the number of the signal that ended it
early, and 141 (SIGPIPE) if its output was not read to the end. A server ends with 0 when it is asked to.
"""

import gc
import os
import signal
import sys

from infra import signals

SERVE = frozenset({"app", "bridge", "broker", "edge", "fleet"})
"""Commands that run until they are asked to end; a word after them is a subcommand."""

TYPER_INTERRUPTED = 130

NO_PLUGINS = ("PYDANTIC_DISABLE_PLUGINS", "__all__")
"""pydantic would otherwise read the list of every installed package to find plugins."""


def main() -> None:
    """Run one command, and exit."""
    signals.prepare()
    gc.disable()  # the command that is loaded ends this (roof.loaded)
    os.environ.setdefault(*NO_PLUGINS)
    sys.exit(_run(sys.argv))


def _run(arguments: list[str]) -> int:
    name = arguments[1] if len(arguments) > 1 else ""
    serves = name in SERVE and (len(arguments) < 3 or arguments[2].startswith("-"))  # noqa: PLR2004 - no third
    try:
        from infra import terminal  # noqa: PLC0415 - a signal that comes while they load is heard

        terminal.prepare(serves=serves and name != "app")
        from sarvis.commands import run  # noqa: PLC0415

        code = run()
        signals.leave()
        code = _told_of_output(terminal.output_problem(), code, alone=terminal.is_output_all())
    except KeyboardInterrupt:
        code = TYPER_INTERRUPTED
    signals.leave()
    by = signals.interrupted_by()
    return code if by is None or code != TYPER_INTERRUPTED else _interrupted(by, serves=serves)


def _interrupted(by: signal.Signals, *, serves: bool) -> int:
    if serves:
        return 0  # it was asked to end before it had begun
    print(f"ended by {by.name} before it was done", file=sys.stderr)
    return 128 + by


def _told_of_output(problem: OSError | None, code: int, *, alone: bool) -> int:
    if problem is None:
        return code
    if isinstance(problem, BrokenPipeError):
        # Libraries turn it into 1.
        return 128 + signal.SIGPIPE if alone or code == 0 else code
    print(f"error: standard output cannot be written: {os.strerror(problem.errno or 0)}", file=sys.stderr)
    return code or 1
