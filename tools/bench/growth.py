"""What the bridge costs as work grows: more and more apps, each step with a fresh bridge."""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.cli_output import say_table
from tools.bench.accounts import BUSY, Account, Row, quantile
from tools.bench.apps import Lost
from tools.bench.load import Load
from tools.bench.measuring import Watch, faults_of, wakes, watching
from tools.bench.npm import NotHereError
from tools.bench.processes import Cores, cpu_s, resident_kib, too_many
from tools.bench.report import cells, describe_machine, rounded, say_machine, titles, verdict
from tools.bench.sweep import sweep_us
from tools.bench.systems import SYSTEMS

STEPS = (100, 300, 1_000, 3_000, 10_000, 19_000, 50_000)
GROWING = {"sarvis": None, "guide": 1_000}
"""Who is measured, up to how many apps."""
BEAT_EVERY_S = 30.0
LIVING_WAKES_PER_S = 100.0
COLUMNS = {
    "apps": ("apps", ",d"),
    "cpu_us_per_event": ("CPU µs/wake", ".1f"),
    "p50_us": ("p50 µs", ",.0f"),
    "cpu_us_per_heartbeat": ("CPU µs/heartbeat", ".1f"),
    "kib_per_connection": ("KiB/conn", ".1f"),
    "connects_per_s": ("connects/s", ",.0f"),
    "cpu_us_per_connect": ("CPU µs/connect", ",.0f"),
    "living_cpu_share": ("living: CPU", ".1%"),
    "living_resident_mib": ("MiB", ",.0f"),
    "living_p99_us": ("p99 µs", ",.0f"),
    "load_share": ("load", ".0%"),
}


@dataclass(frozen=True)
class Plan:
    """How much of everything; from `living_from` apps on they also live for a while; `users` of the sweep."""

    steps: Sequence[int]
    events: int
    outstanding: int
    living_from: int
    living_s: float
    users: int


def run(plan: Plan, cores: Cores, file: Path | None) -> int:
    """Measure and tell; the exit code."""
    machine = describe_machine(cores, events=plan.events, outstanding=plan.outstanding)
    rows: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    for name, most in GROWING.items():
        for apps in plan.steps:
            if most is not None and apps > most:
                continue
            why = too_many(apps)
            if why is None:
                print(f"{name}: {apps:,} apps", file=sys.stderr, flush=True)
                try:
                    rows.append({"system": name, "apps": apps, **_step(name, apps, plan, cores)})
                except NotHereError as error:
                    why = str(error)
            if why is not None:
                left_out[f"{name} with {apps:,} apps"] = why
    sweep = {"users": plan.users, "us": round(sweep_us(plan.users), 3)}
    _tell(machine, rows, left_out, sweep)
    if file is not None:
        report = {"machine": machine, "growth": rows, "left_out": left_out, "sweep": sweep}
        file.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    return verdict(rows)


def _step(name: str, apps: int, plan: Plan, cores: Cores) -> dict[str, Any]:
    try:
        with watching(SYSTEMS[name], apps, cores) as watch:
            watch.warm_up(apps, plan.events)
            with watch.load(apps) as load:
                return _measure(watch, load, SYSTEMS[name].outcomes, plan)
    except (Lost, AssertionError) as error:
        return {"sent": 0, "received": 0, "faults": [f"ended early: {error}"]}


def _measure(watch: Watch, load: Load, each: Sequence[str], plan: Plan) -> dict[str, Any]:
    row = watch.settled(load)
    outstanding = min(plan.outstanding, load.apps)
    beats = watch.window(load, load.heartbeats(plan.events // 2, outstanding))
    more, windows = wakes(watch, load, each, 1, plan.events, plan.outstanding)
    windows["heartbeats"] = beats
    row |= {"cpu_us_per_heartbeat": beats.cpu_us, **more}
    accounts = [window.account for window in windows.values()]
    faults = faults_of(windows)
    if load.apps >= plan.living_from:
        living, lived, wrong = _live(watch, load, each, plan.living_s)
        row |= living
        accounts += lived
        faults += wrong
    return {
        **rounded(row),
        "sent": sum(account.sent for account in accounts),
        "received": sum(account.received for account in accounts),
        "faults": faults,
    }


def _live(watch: Watch, load: Load, each: Sequence[str], seconds: float) -> tuple[Row, list[Account], list[str]]:
    act = load.living(seconds, beat_every_s=BEAT_EVERY_S, wakes_per_s=LIVING_WAKES_PER_S)
    began, before = time.monotonic(), cpu_s(watch.pid)
    woken, beats = act()
    used, took = cpu_s(watch.pid) - before, time.monotonic() - began
    told = load.outcomes(woken.sent * len(each))
    faults = [f"living, wakes: {fault}" for fault in woken.faults(told, each)]
    faults += [f"living, heartbeats: {fault}" for fault in beats.faults({}, ())]
    row: Row = {
        "living_cpu_share": used / took,
        "living_resident_mib": resident_kib(watch.pid) / 1024,
        "living_beats_per_s": beats.sent / took,
        "living_wakes_per_s": woken.sent / took,
        "living_p50_us": quantile(woken.latencies, 0.5) * 1e6,
        "living_p99_us": quantile(woken.latencies, 0.99) * 1e6,
    }
    return row, [woken, beats], faults


def _tell(
    machine: dict[str, Any], rows: Sequence[dict[str, Any]], left_out: dict[str, str], sweep: dict[str, Any]
) -> None:
    say_machine(machine)
    say_table(["system", *titles(COLUMNS)], [[row["system"], *cells(row, COLUMNS)] for row in rows])
    print()
    print(f"a look for due deadlines with {sweep['users']:,} users: {sweep['us']:.2f} µs")
    for name, why in left_out.items():
        print(f"{name} left out: {why}")
    for row in rows:
        where = f"{row['system']} with {row['apps']:,} apps"
        if (row.get("load_share") or 0.0) > BUSY:
            print(f"{where}: generator bound, the load was busy {row['load_share']:.0%}: it may serve more per second")
        if (row.get("connects_generator_share") or 0.0) > BUSY:
            print(f"{where}: the load was busy {row['connects_generator_share']:.0%}: more may come in per second")
        if row.get("connects_syn_dropped"):
            print(f"{where}: {row['connects_syn_dropped']:,.0f} SYNs found no place and came again a second later")
        for fault in row["faults"]:
            print(f"{where}: {fault}")
    print(f"sent {sum(row['sent'] for row in rows):,}, received {sum(row['received'] for row in rows):,}")
