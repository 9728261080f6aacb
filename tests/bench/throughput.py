"""What a wake costs the bridge, beside the documented server and others: `scripts/bench [--quick] [--json FILE]`.

Each system runs in a process of its own on one core; the broker (Mosquitto) and the load run on another. CPU is that
of the system's process alone. Ends with 1 unless every message that was sent has come, once, where it should.
"""

import argparse
import json
import os
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bridge.lines import say_table
from tests.bench.accounts import BUSY, Account, Row, middle, per_event_us, quantile, spread
from tests.bench.load import Load, Lost
from tests.bench.systems import (
    FLOOR,
    NAMES,
    SYSTEMS,
    Cores,
    NotHereError,
    Running,
    System,
    cpu_s,
    floor,
    mosquitto,
    on_core,
    profiled,
    resident_kib,
)

PACED_PER_S = 500.0
PACED_AT_MOST = 2_000
HTTP_CONNECTIONS = 8
WARM_APPS = 20
FRAME_BYTES = 190
"""A wake's frame on sarvis.v2."""
COLUMNS = {
    "cpu_us_per_event": ("CPU µs/wake", ".1f"),
    "events_per_s": ("wakes/s", ",.0f"),
    "p50_us": ("p50 µs", ",.0f"),
    "p99_us": ("p99 µs", ",.0f"),
    "kib_per_connection": ("KiB/conn", ".1f"),
    "connects_per_s": ("connects/s", ",.0f"),
    "cpu_us_per_connect": ("CPU µs/connect", ",.0f"),
    "cpu_us_per_heartbeat": ("CPU µs/heartbeat", ".1f"),
    "cpu_us_per_http": ("CPU µs/HTTP", ".1f"),
    "load_share": ("load", ".0%"),
}


@dataclass(frozen=True)
class Plan:
    """How much of everything."""

    apps: int
    events: int
    outstanding: int
    rounds: int


@dataclass
class Results:
    """Each round's numbers by system and QoS, what was sent and received in all, and every fault."""

    rounds: dict[tuple[str, int | None], list[Row]] = field(default_factory=dict)
    sent: dict[tuple[str, int | None], int] = field(default_factory=dict)
    received: dict[tuple[str, int | None], int] = field(default_factory=dict)
    faults: dict[tuple[str, int | None], list[str]] = field(default_factory=dict)

    def add(self, system: str, qos: int | None, row: Row, sent: int, received: int, faults: Sequence[str]) -> None:
        """One round of one row."""
        key = (system, qos)
        self.rounds.setdefault(key, []).append(row)
        self.sent[key] = self.sent.get(key, 0) + sent
        self.received[key] = self.received.get(key, 0) + received
        self.faults.setdefault(key, []).extend(faults)

    def rows(self) -> list[dict[str, Any]]:
        """The median of the rounds, with their spread, for JSON."""
        return [
            {
                "system": key[0],
                "qos": key[1],
                **_rounded(middle(rounds)),
                "generator_bound": (middle(rounds).get("load_share") or 0.0) > BUSY,
                "spread": {name: _rounded(dict(zip(("min", "max"), ends, strict=True)))
                           for name, ends in spread(rounds).items()},
                "rounds": len(rounds),
                "sent": self.sent[key],
                "received": self.received[key],
                "faults": self.faults[key],
            }
            for key, rounds in self.rounds.items()
        ]  # fmt: skip


def main() -> None:
    """Measure and tell."""
    arguments = _arguments()
    _allow_many_files()
    cores = Cores.of_this_machine()
    plan = Plan(arguments.apps, arguments.events, arguments.outstanding, arguments.rounds)
    if arguments.profile is not None:
        _profile(arguments.profile, plan, cores)
        return
    if cores.system is None:
        print("one core: nothing is pinned, and the load takes time from what it measures")
    if cores.load is not None:
        os.sched_setaffinity(0, {cores.load})
    results = Results()
    left_out: dict[str, str] = {}
    machine = _machine(cores, plan)
    for number in range(1, plan.rounds + 1):
        for name in arguments.systems:
            if name in left_out:
                continue
            print(f"round {number} of {plan.rounds}: {name}", file=sys.stderr, flush=True)
            try:
                _measure_one(name, plan, cores, results)
            except NotHereError as error:
                left_out[name] = str(error)
    rows = results.rows()
    _tell(machine, rows, left_out)
    if arguments.json is not None:
        report = {"machine": machine, "rows": rows, "left_out": left_out}
        arguments.json.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    sys.exit(verdict(rows))


def verdict(rows: Sequence[dict[str, Any]]) -> int:
    """The exit code: 0 when something was measured and all of it is accounted for."""
    return 0 if rows and all(row["sent"] == row["received"] and not row["faults"] for row in rows) else 1


def _measure_one(name: str, plan: Plan, cores: Cores, results: Results) -> None:
    if name == FLOOR:
        cpu_us, per_s = floor(plan.apps, plan.events, FRAME_BYTES, cores)
        results.add(name, None, {"cpu_us_per_event": cpu_us, "events_per_s": per_s}, plan.events, plan.events, ())
        return
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, mosquitto(Path(folder), cores.load) as broker:
        _Measuring(SYSTEMS[name], plan, cores, results, broker).run(Path(folder))


class _Measuring:
    """One system in one round."""

    def __init__(self, system: System, plan: Plan, cores: Cores, results: Results, broker: tuple[int, int]) -> None:
        self._system = system
        self._plan = plan
        self._cores = cores
        self._results = results
        self._broker_pid, self._mqtt_port = broker
        self._pid = 0

    def run(self, folder: Path) -> None:
        with on_core(self._cores.system):
            running = self._system.start(folder, self._mqtt_port, self._plan.apps)
        self._pid = running.process.pid
        try:
            self._measure(running)
        except Lost as lost:
            raise AssertionError(f"{self._system.name}: {lost}\n{running.process.log[-3000:]}") from lost
        finally:
            running.process.stop()

    def _measure(self, running: Running) -> None:
        plan = self._plan
        with self._load(running, min(WARM_APPS, plan.apps)) as load:
            load.come(load.apps)
            load.wakes(1, min(200, plan.events), load.apps)
            load.heartbeats(min(200, plan.events), load.apps)
            load.rest(0.5)
        with self._load(running, plan.apps) as load:
            load.rest(0.5)
            before_kib, before_s = resident_kib(self._pid), cpu_s(self._pid)
            took_s = load.come(plan.apps)
            connecting_s = cpu_s(self._pid) - before_s
            load.rest(0.5)
            common: Row = {
                "kib_per_connection": (resident_kib(self._pid) - before_kib) / plan.apps,
                "connects_per_s": plan.apps / took_s,
                "cpu_us_per_connect": per_event_us(connecting_s, plan.apps),
            }
            outstanding = min(plan.outstanding, plan.apps)
            load.heartbeats(min(plan.apps, plan.events), outstanding)
            beats = self._window(load, lambda: load.heartbeats(plan.events // 2, outstanding))
            common["cpu_us_per_heartbeat"] = beats.cpu_us
            common["cpu_us_per_http"] = None
            also = {"heartbeats": beats}
            if not self._system.nats:
                posts = self._window(load, lambda: load.triggers(plan.events // 4, min(HTTP_CONNECTIONS, plan.apps)))
                common["cpu_us_per_http"] = posts.cpu_us
                also["HTTP"] = posts
            for qos in (0, 1):
                self._measure_wakes(load, qos, common, also)

    def _measure_wakes(self, load: Load, qos: int, common: Row, also: "dict[str, _Window]") -> None:
        plan, each = self._plan, self._system.outcomes
        first = self._window(load, lambda: load.wakes(qos, max(plan.events // 5, 1), plan.outstanding), each)
        full = self._window(load, lambda: load.wakes(qos, plan.events, plan.outstanding), each)
        paced = self._window(load, lambda: load.paced(qos, min(plan.events, PACED_AT_MOST), PACED_PER_S), each)
        row: Row = {
            "cpu_us_per_event": full.cpu_us,
            "events_per_s": full.account.received / full.took_s,
            "p50_us": quantile(paced.account.latencies, 0.5) * 1e6,
            "p99_us": quantile(paced.account.latencies, 0.99) * 1e6,
            **common,
            "generator_share": full.generator_share,
            "load_share": full.load_share,
        }
        windows = {"warming up": first, "at full rate": full, "paced": paced, **also}
        faults = [f"{name}: {fault}" for name, window in windows.items() for fault in window.faults]
        sent = sum(window.account.sent for window in windows.values())
        received = sum(window.account.received for window in windows.values())
        self._results.add(self._system.name, qos, row, sent, received, faults)

    def _load(self, running: Running, apps: int) -> Load:
        return Load(
            running.port,
            running.mqtt_port or self._mqtt_port,
            apps=apps,
            v2=self._system.v2,
            nats=self._system.nats,
            tokens=running.tokens,
            api_key=running.api_key,
        )

    def _window(self, load: Load, act: Callable[[], Account], each: Sequence[str] = ()) -> "_Window":
        began, ours = time.monotonic(), time.process_time()
        system, broker = cpu_s(self._pid), cpu_s(self._broker_pid)
        account = act()
        took = time.monotonic() - began
        ours, broker = time.process_time() - ours, cpu_s(self._broker_pid) - broker
        told = load.outcomes(account.sent * len(each))
        system = cpu_s(self._pid) - system
        return _Window(
            account,
            took,
            per_event_us(system, account.received),
            ours / took,
            (ours + broker) / took,
            account.faults(told, each),
        )


@dataclass(frozen=True)
class _Window:
    account: Account
    took_s: float
    cpu_us: float
    generator_share: float
    load_share: float
    faults: list[str]


def _profile(file: Path, plan: Plan, cores: Cores) -> None:
    """The bridge under cProfile while wakes come with QoS 1."""
    system = profiled(SYSTEMS["sarvis"], file)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, mosquitto(Path(folder), cores.load) as (_, mqtt_port):
        with on_core(cores.system):
            running = system.start(Path(folder), mqtt_port, plan.apps)
        try:
            with on_core(cores.load), Load(running.port, mqtt_port, apps=plan.apps, v2=system.v2) as load:
                load.come(plan.apps)
                load.wakes(1, plan.events, plan.outstanding)
        finally:
            running.process.stop()
    print(f"python -m pstats {file} reads it")


def _tell(machine: dict[str, Any], rows: Sequence[dict[str, Any]], left_out: dict[str, str]) -> None:
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    print()
    head = ["system", "QoS", *(title for title, _ in COLUMNS.values())]
    say_table(head, [_cells(row) for row in rows])
    print()
    for name, why in left_out.items():
        print(f"{name} left out: {why}")
    for row in rows:
        where = row["system"] if row["qos"] is None else f"{row['system']} QoS {row['qos']}"
        if row["generator_bound"]:
            print(f"{where}: generator bound, the load was busy {row['load_share']:.0%}: it may serve more per second")
        for fault in row["faults"]:
            print(f"{where}: {fault}")
    print(f"sent {sum(row['sent'] for row in rows):,}, received {sum(row['received'] for row in rows):,}")


def _cells(row: dict[str, Any]) -> list[str]:
    numbers = ["-" if row.get(key) is None else format(row[key], form) for key, (_, form) in COLUMNS.items()]
    return [row["system"], "-" if row["qos"] is None else str(row["qos"]), *numbers]


def _rounded(row: Row) -> Row:
    return {key: None if value is None else round(value, 3) for key, value in row.items()}


def _machine(cores: Cores, plan: Plan) -> dict[str, Any]:
    models = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
              if line.startswith("model name")]  # fmt: skip
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "pinned": cores.system is not None,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_average": round(os.getloadavg()[0], 2),
        "apps": plan.apps,
        "events": plan.events,
        "outstanding": plan.outstanding,
        "rounds": plan.rounds,
    }


def _allow_many_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="100 apps and 2,000 wakes instead of 1,000 and 20,000")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there, too")
    parser.add_argument("--rounds", type=int, default=3, help="of which the median is told")
    parser.add_argument("--systems", type=_systems, default=list(NAMES), help=f"some of {','.join(NAMES)}")
    parser.add_argument("--apps", type=int)
    parser.add_argument("--events", type=int, help="wakes at full rate, for each QoS")
    parser.add_argument("--outstanding", type=int, default=64, help="wakes on their way, at most")
    parser.add_argument("--profile", type=Path, metavar="FILE", help="only run the bridge, under cProfile")
    arguments = parser.parse_args()
    arguments.apps = arguments.apps or (100 if arguments.quick else 1_000)
    arguments.events = arguments.events or (2_000 if arguments.quick else 20_000)
    if min(arguments.apps, arguments.rounds, arguments.outstanding) < 1 or arguments.events < 4:
        parser.error("--apps, --rounds and --outstanding must be at least 1, --events at least 4")
    return arguments


def _systems(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise argparse.ArgumentTypeError(f"no system {', '.join(unknown)}; there are {', '.join(NAMES)}")
    return names


if __name__ == "__main__":
    main()
