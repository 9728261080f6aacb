"""Shows a fleet: a table on a terminal, a line every few seconds elsewhere, JSON for programs."""

import json
import sys
from types import TracebackType
from typing import Protocol, Self, TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table

from infra.telemetry import Unbreakable
from sarvis.fleet.latencies import Spread
from sarvis.fleet.report import Report

LINE_EVERY = 5
"""Seconds between the lines where there is no table."""


class Shown(Protocol):
    """Shows a fleet from its first second to its final report.

    A context manager, because a terminal must be restored.
    """

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def second(self, now: Report) -> None:
        """Called every second."""
        ...

    def warn(self, words: str) -> None:
        """On standard error."""
        ...

    def summary(self, told: Report) -> None:
        """Show the final report."""
        ...


class _Plain:
    def __init__(self, out: TextIO) -> None:
        self._out = Unbreakable(out)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def warn(self, words: str) -> None:
        """On standard error."""
        Unbreakable(sys.stderr).write(f"warning: {words}\n")

    def _line(self, text: str) -> None:
        self._out.write(text + "\n")
        self._out.flush()


class JsonLines(_Plain):
    """One object per second (`event` is `second`) and a final one (`summary`)."""

    def second(self, now: Report) -> None:
        """Print one line."""
        self._line(json.dumps(now.to_json("second")))

    def summary(self, told: Report) -> None:
        """Print one line."""
        self._line(json.dumps(told.to_json("summary")))


class Lines(_Plain):
    """For a file or a pipe."""

    def __init__(self, out: TextIO) -> None:
        super().__init__(out)
        self._seconds = 0

    def second(self, now: Report) -> None:
        """Print a line every few seconds."""
        self._seconds += 1
        if self._seconds % LINE_EVERY == 0:
            self._line("; ".join(f"{what}: {value}" for what, value in rows(now)))

    def summary(self, told: Report) -> None:
        """Print a line for each figure."""
        found = rows(told)
        width = max(len(what) for what, _ in found)
        for what, value in found:
            self._line(f"{what:<{width}}  {value}")


class LiveTable(_Plain):
    """For a person at a terminal."""

    def __init__(self, out: TextIO) -> None:
        super().__init__(out)
        self._live = Live(console=Console(file=out), auto_refresh=False, transient=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def second(self, now: Report) -> None:
        """Show the table, renewed in its place."""
        table = Table.grid(padding=(0, 2))
        for what, value in rows(now):
            table.add_row(f"[bold]{what}[/]", value)
        self._live.update(table, refresh=True)

    def summary(self, told: Report) -> None:
        """Leave the table on the screen."""
        self.second(told)


def chosen(out: TextIO, *, as_json: bool) -> Shown:
    """The form that suits the output."""
    if as_json:
        return JsonLines(out)
    return LiveTable(out) if out.isatty() else Lines(out)


def rows(told: Report) -> list[tuple[str, str]]:
    """The figures for people, as name and value."""
    wakes = told.wakes
    fates = ", ".join(
        f"{count} {'without yet' if fate == 'none' else fate}" for fate, count in wakes.fates.items() if count
    )
    rang = f"{wakes.received} received, {wakes.duplicates} duplicates"
    others = ((wakes.repeats, "were repeated and did not ring again"), (wakes.foreign, "of others"))
    rang += "".join(f", {count} {what}" for count, what in others if count)
    busy = "; too busy or delayed: these figures are not the system's alone" if told.bottleneck else ""
    return [
        (told.phase, f"{told.ran_s:.0f} s"),
        ("devices", f"{told.devices_connected} of {told.devices} connected, {told.devices_active} with a session"),
        (
            "apps",
            f"{told.apps_connected} of {told.apps} connected"
            + (f", {told.apps_stopped} left" if told.apps_stopped else ""),
        ),
        ("wakes", f"{wakes.made}" + (f" ({wakes.ignored} ignored in standby)" if wakes.ignored else "")),
        ("fates", fates or "-"),
        ("apps rang", rang),
        ("word to app", _spread(wakes.app)),
        ("word to outcome", _spread(wakes.outcome)),
        ("log-outs", str(told.log_outs)),
        ("reconnects", f"{told.device_reconnects} devices, {told.app_reconnects} apps"),
        ("this process", f"{told.cpu:.0%} of a core, at most {told.cpu_peak:.0%}{busy}"),
        ("wakes late by", _spread(told.late)),
    ]


def _spread(spread: Spread) -> str:
    if spread.max is None:
        return "-"
    return f"p50 {spread.p50:.1f} ms, p99 {spread.p99:.1f} ms, max {spread.max:.1f} ms"
