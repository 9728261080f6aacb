"""What starting and resting costs, beside another checkout: `python -m tools.bench.start --before DIR`.

Both checkouts run by turns, with this Python and its packages, each with a home of its own. Prints medians: CPU and
wall time of a command or until a process listens, memory at rest (PSS), CPU of an edge that hears silence, and the
ratio of each. Compare within a run only.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.waiting import wait_for
from tools.bench.processes import cpu_s

HERE = Path(__file__).parents[2]
COMMANDS = ("--version", "--help", "token list", "token app alice", "device list", "sessions list")
REST_S = 5.0
LISTENS_WITHIN_S = 60.0

Figures = dict[str, float]


@dataclass(frozen=True)
class Checkout:
    """A checkout that is run, and its home folder."""

    name: str
    folder: Path
    home: Path

    @property
    def env(self) -> Mapping[str, str]:
        """What its processes get: this checkout's modules, commands and nothing of the caller's settings."""
        given = {key: value for key, value in os.environ.items() if not key.startswith("SARVIS_")}
        return {**given, "PYTHONPATH": f"{self.folder}:{self.home}", "HOME": str(self.home), "PYTHONUTF8": "1"}

    def describe(self) -> None:
        """Write the metadata that an installation of this checkout would have."""
        project = tomllib.loads((self.folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        lines = [
            line
            for group, commands in project.get("entry-points", {}).items()
            for line in (f"[{group}]", *(f"{name} = {where}" for name, where in commands.items()))
        ]
        info = self.home / f"sarvis-{project['version']}.dist-info"
        info.mkdir()
        told = f"Metadata-Version: 2.1\nName: sarvis\nVersion: {project['version']}\n"
        (info / "METADATA").write_text(told, encoding="utf-8")
        (info / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")

    def command(self, arguments: str) -> Figures:
        """Run a command to its end; raises AssertionError if it fails."""
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "sarvis", *arguments.split()],
            env=self.env, cwd=self.home, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0, f"{self.name}: sarvis {arguments} ended with {process.returncode}"
        return {"CPU ms": (used.ru_utime + used.ru_stime) * 1e3, "wall ms": wall * 1e3}

    @contextmanager
    def server(self, arguments: str) -> Iterator[tuple[int, str, Figures]]:
        """A process that listens: its id, what it printed, and what that took."""
        log = self.home / f"{arguments.split(maxsplit=1)[0]}.log"
        with log.open("wb") as file:
            began = time.perf_counter()
            process = subprocess.Popen(
                [sys.executable, "-m", "sarvis", *arguments.split()],
                env=self.env, cwd=self.home, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
            )  # fmt: skip
        try:
            wait_for(f"{arguments} listens", lambda: "listening" in log.read_text("utf-8"), LISTENS_WITHIN_S)
            took = {"CPU ms": cpu_s(process.pid) * 1e3, "wall ms": (time.perf_counter() - began) * 1e3}
            yield process.pid, log.read_text("utf-8"), took
        finally:
            process.terminate()
            process.wait()


def pss_mib(pid: int) -> float:
    """Memory of a process, shared pages divided among those who share them."""
    found = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) / 1024


def rest(checkout: Checkout, quiet_s: float) -> dict[str, Figures]:
    """Start broker, bridge and edge, let them rest, and let the edge hear silence."""
    found: dict[str, Figures] = {}
    pids: dict[str, int] = {}
    with ExitStack() as running:
        address = ""
        for name, arguments in (
            ("broker", "broker --port 0"),
            ("bridge", "bridge --port 0 --mqtt-url {}"),
            ("edge", "edge --device-id bench --source silence --http-port 0 --mqtt-url {}"),
        ):
            pid, told, took = running.enter_context(checkout.server(arguments.format(address)))
            address = address or re.findall(r"mqtt://[0-9.:]+", told)[0]
            pids[name] = pid
            found[f"{name} to listening"] = took
        time.sleep(REST_S)
        before = cpu_s(pids["edge"])
        time.sleep(quiet_s)
        used = cpu_s(pids["edge"]) - before
        found["edge in a quiet room"] = {"CPU %": used / quiet_s * 100}
        for name, pid in pids.items():
            found[f"{name} at rest"] = {"PSS MiB": pss_mib(pid)}
    return found


def main() -> None:
    """Measure both checkouts and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.start", description=__doc__)
    parser.add_argument("--before", type=Path, required=True, help="the other checkout")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quiet-s", type=float, default=20.0, help="for how long the edge hears silence")
    parser.add_argument("--only", choices=["commands", "servers"], help="one half of the rows")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-start-") as folder:
        both = [
            Checkout(name, where.resolve(), Path(folder) / name)
            for name, where in (("before", asked.before), ("now", HERE))
        ]
        for checkout in both:
            checkout.home.mkdir()
            checkout.describe()
        rows: dict[tuple[str, str], dict[str, list[float]]] = {}

        def note(what: str, checkout: Checkout, figures: Figures) -> None:
            for unit, value in figures.items():
                rows.setdefault((what, unit), {}).setdefault(checkout.name, []).append(value)

        for _ in range(asked.rounds):
            _servers(both, asked.quiet_s, note, shown=asked.only != "commands")
            for command in COMMANDS if asked.only != "servers" else ():
                for checkout in both:
                    note(f"sarvis {command}", checkout, checkout.command(command))
    print("| | before | now | ratio |\n|---|---|---|---|")
    for (what, unit), values in rows.items():
        before, now = (statistics.median(values[checkout.name]) for checkout in both)
        print(f"| {what}, {unit} | {before:,.1f} | {now:,.1f} | {now / before:.2f} |")


def _servers(
    both: list[Checkout], quiet_s: float, note: Callable[[str, Checkout, Figures], None], *, shown: bool
) -> None:
    """Also without their rows they run once: commands read the ledger that a bridge has made."""
    for checkout in both:
        if shown or not (checkout.home / "bridge.log").exists():
            for what, figures in rest(checkout, quiet_s if shown else 0.1).items():
                if shown:
                    note(what, checkout, figures)


if __name__ == "__main__":
    main()
