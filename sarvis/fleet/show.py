"""A fleet for whoever looks: a table on a terminal, now and then a line elsewhere, JSON for programs."""

import json
import sys
from types import TracebackType
from typing import Protocol, Self, TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table

from contract.telemetry import Unbreakable
from sarvis.fleet.latencies import Spread
from sarvis.fleet.report import Report

LINE_EVERY = 5
"""Seconds between the lines where nobody watches a table."""


class Shown(Protocol):
    """Shows a fleet from its first second to its sum; a context manager, because a terminal must be given back."""

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
        """The last thing that is shown."""
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
    """One object per second (`event` is `second`) and a last one (`summary`)."""

    def second(self, now: Report) -> None:
        """One line."""
        self._line(json.dumps(now.to_json("second")))

    def summary(self, told: Report) -> None:
        """One line."""
        self._line(json.dumps(told.to_json("summary")))


class Lines(_Plain):
    """For a file or a pipe."""

    def __init__(self, out: TextIO) -> None:
        super().__init__(out)
        self._seconds = 0

    def second(self, now: Report) -> None:
        """A line every few seconds."""
        self._seconds += 1
        if self._seconds % LINE_EVERY == 0:
            self._line("; ".join(f"{what}: {value}" for what, value in rows(now)))

    def summary(self, told: Report) -> None:
        """A line for each figure."""
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
        """The table, renewed in its place."""
        table = Table.grid(padding=(0, 2))
        for what, value in rows(now):
            table.add_row(f"[bold]{what}[/]", value)
        self._live.update(table, refresh=True)

    def summary(self, told: Report) -> None:
        """The table stays."""
        self.second(told)


def chosen(out: TextIO, *, as_json: bool) -> Shown:
    """What fits to whoever reads."""
    if as_json:
        return JsonLines(out)
    return LiveTable(out) if out.isatty() else Lines(out)


def rows(told: Report) -> list[tuple[str, str]]:
    """What a person reads, as name and value."""
    wakes = told.wakes
    fates = ", ".join(
        f"{count} {'without yet' if fate == 'none' else fate}" for fate, count in wakes.fates.items() if count
    )
    rang = f"{wakes.received} received, {wakes.duplicates} duplicates"
    others = ((wakes.repeats, "came again and were silent"), (wakes.foreign, "of others"))
    rang += "".join(f", {count} {what}" for count, what in others if count)
    busy = "; too busy or kept waiting: these figures are not the system's alone" if told.bottleneck else ""
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
        ("word to fate", _spread(wakes.outcome)),
        ("log-outs", str(told.log_outs)),
        ("reconnects", f"{told.device_reconnects} devices, {told.app_reconnects} apps"),
        ("this process", f"{told.cpu:.0%} of a core, at most {told.cpu_peak:.0%}{busy}"),
        ("wakes late by", _spread(told.late)),
    ]


def _spread(spread: Spread) -> str:
    if spread.max is None:
        return "-"
    return f"p50 {spread.p50:.1f} ms, p99 {spread.p99:.1f} ms, max {spread.max:.1f} ms"
