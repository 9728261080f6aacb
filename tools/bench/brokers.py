"""What the embedded broker carries, beside Mosquitto: `python -m tools.bench.brokers [--json FILE]`.

With `--before DIR` beside the embedded broker of another checkout instead. Each broker runs on a core of its own, the
devices and the one who listens to them on another. Both keep retained messages and persistent sessions on disk. For
each number of devices a fresh broker, in turn.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from infra.cli_output import say_table
from tests.support.ports import free_port
from tests.support.waiting import wait_for
from tests.support.world import HOST, accepts
from tools.bench.accounts import BUSY, Account, Row, per_event_us, quantile
from tools.bench.apps import Lost
from tools.bench.devices import Devices
from tools.bench.processes import (
    Cores,
    Process,
    allow_many_files,
    cpu_s,
    on_core,
    resident_kib,
    settle,
    too_many,
)
from tools.bench.report import cells, describe_machine, rounded, say_machine, titles, verdict
from tools.bench.start import HERE, Checkout
from tools.bench.systems import start_mosquitto

STEPS = (10, 100, 1_000, 5_000)
WAKES_PER_S = 20.0
COLUMNS = {
    "devices": ("devices", ",d"),
    "empty_mib": ("MiB empty", ",.0f"),
    "kib_per_device": ("KiB/device", ".1f"),
    "cpu_us_per_arrival": ("CPU µs/arrival", ",.0f"),
    "arrivals_per_s": ("arrivals/s", ",.0f"),
    "cpu_us_per_wake_0": ("CPU µs/wake QoS 0", ".1f"),
    "cpu_us_per_wake": ("QoS 1", ".1f"),
    "cpu_us_per_command": ("CPU µs/command", ".1f"),
    "wakes_per_s": ("wakes/s", ",.0f"),
    "p50_us": ("p50 µs", ",.0f"),
    "living_cpu_share": ("living: CPU", ".2%"),
    "load_share": ("load", ".0%"),
}


@dataclass(frozen=True)
class Plan:
    """How much of everything."""

    steps: tuple[int, ...]
    messages: int
    outstanding: int
    living_s: float


@contextmanager
def embedded(folder: Path, checkout: Path = HERE) -> Iterator[tuple[Process, int]]:
    """`sarvis broker` of a checkout."""
    built = Checkout("broker", checkout, folder)
    built.describe()
    process = Process(
        "broker",
        [sys.executable, "-m", "sarvis", "broker", "--port", "0"],
        folder,
        {**built.env, "SARVIS_BROKER__DIR": str(folder / "broker")},
    )
    try:
        yield process, int(process.said(rf"listening on mqtt://{HOST}:(\d+)"))
    finally:
        process.stop()


@contextmanager
def mosquitto(folder: Path) -> Iterator[tuple[Process, int]]:
    """Mosquitto that saves every 5 s, as `sarvis broker config mosquitto` sets it up."""
    port = free_port()
    saving = f"persistence true\npersistence_location {folder}/\nautosave_interval 5\n"
    process = start_mosquitto(folder, "mosquitto", f"{saving}listener {port} {HOST}\n")
    try:
        wait_for("mosquitto's port", lambda: accepts(port))
        yield process, port
    finally:
        process.stop()


Start = Callable[[Path], AbstractContextManager[tuple[Process, int]]]
BROKERS: dict[str, Start] = {"embedded": embedded, "mosquitto": mosquitto}


def run(plan: Plan, cores: Cores, brokers: Mapping[str, Start], file: Path | None) -> int:
    """Measure and tell; the exit code."""
    machine = describe_machine(cores, messages=plan.messages, outstanding=plan.outstanding)
    rows: list[dict[str, Any]] = []
    for devices in plan.steps:
        for name in brokers:
            why = too_many(devices)
            if why is not None:
                print(f"{name} with {devices:,} devices left out: {why}")
                continue
            print(f"{name}: {devices:,} devices", file=sys.stderr, flush=True)
            rows.append({"broker": name, "devices": devices, **_step(name, brokers[name], devices, plan, cores)})
    _tell(machine, rows)
    if file is not None:
        file.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2, ensure_ascii=False) + "\n")
    return verdict(rows)


def _step(name: str, start: Start, devices: int, plan: Plan, cores: Cores) -> dict[str, Any]:
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder, ExitStack() as running:
            with on_core(cores.system):
                process, port = running.enter_context(start(Path(folder)))
            with on_core(cores.load), Devices(port, name) as load:
                return _measure(process.pid, load, devices, plan)
    except (Lost, AssertionError) as error:
        return {"sent": 0, "received": 0, "faults": [f"ended early: {error}"]}


def _measure(pid: int, load: Devices, devices: int, plan: Plan) -> dict[str, Any]:
    settle(pid)
    empty = resident_kib(pid)
    began, used = time.monotonic(), cpu_s(pid)
    load.come(devices)
    took, used = time.monotonic() - began, cpu_s(pid) - used
    settle(pid)
    outstanding = min(plan.outstanding, devices)
    load.wakes(1, plan.messages // 10, outstanding)
    commands = _window(pid, lambda: load.commands(plan.messages // 4, outstanding))
    careless = _window(pid, lambda: load.wakes(0, plan.messages, outstanding))
    careful = _window(pid, lambda: load.wakes(1, plan.messages, outstanding))
    living = _window(pid, lambda: load.live(plan.living_s, WAKES_PER_S))
    windows = (commands, careless, careful, living)
    row: Row = {
        "empty_mib": empty / 1024,
        "kib_per_device": (resident_kib(pid) - empty) / devices,
        "cpu_us_per_arrival": per_event_us(used, devices),
        "arrivals_per_s": devices / took,
        "cpu_us_per_command": commands.cpu_us,
        "cpu_us_per_wake_0": careless.cpu_us,
        "cpu_us_per_wake": careful.cpu_us,
        "wakes_per_s": careful.account.sent / careful.took_s,
        "load_share": careful.load_share,
        "p50_us": quantile(living.account.latencies, 0.5) * 1e6,
        "living_cpu_share": living.cpu_us * living.account.sent / 1e6 / living.took_s,
    }
    return {
        **rounded(row),
        "sent": sum(window.account.sent for window in windows),
        "received": sum(window.account.received for window in windows),
        "faults": [fault for window in windows for fault in window.account.faults({}, ())],
    }


@dataclass(frozen=True)
class Window:
    """What came of one act, and what it cost the broker and the load."""

    account: Account
    took_s: float
    cpu_us: float
    load_share: float


def _window(pid: int, act: Callable[[], Account]) -> Window:
    began, used, ours = time.monotonic(), cpu_s(pid), time.process_time()
    account = act()
    took, ours = time.monotonic() - began, time.process_time() - ours
    settle(pid)
    return Window(account, took, per_event_us(cpu_s(pid) - used, account.sent), ours / took)


def _tell(machine: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    say_machine(machine)
    say_table(["broker", *titles(COLUMNS)], [[row["broker"], *cells(row, COLUMNS)] for row in rows])
    print()
    for row in rows:
        where = f"{row['broker']} with {row['devices']:,} devices"
        if (row.get("load_share") or 0.0) > BUSY:
            print(f"{where}: generator bound, the load was busy {row['load_share']:.0%}: it may carry more per second")
        for fault in row["faults"]:
            print(f"{where}: {fault}")
    print(f"sent {sum(row['sent'] for row in rows):,}, received {sum(row['received'] for row in rows):,}")


def main() -> int:
    """Measure each broker with each number of devices; the exit code says whether all is accounted for."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.brokers", description=__doc__)
    parser.add_argument("--devices", default=",".join(map(str, STEPS)), help="numbers, with commas between them")
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--outstanding", type=int, default=64, help="messages on their way at any time")
    parser.add_argument("--living", type=float, default=20.0, help="seconds of ordinary life")
    parser.add_argument("--before", type=Path, help="another checkout, whose embedded broker takes Mosquitto's place")
    parser.add_argument("--json", type=Path, help="write everything to this file")
    arguments = parser.parse_args()
    allow_many_files()
    steps = tuple(int(step) for step in arguments.devices.split(","))
    plan = Plan(steps, arguments.messages, arguments.outstanding, arguments.living)
    brokers = BROKERS
    if arguments.before is not None:
        brokers = {"before": partial(embedded, checkout=arguments.before.resolve()), "now": embedded}
    return run(plan, Cores.of_this_machine(), brokers, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
