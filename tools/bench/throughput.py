"""What a wake costs the bridge, beside the documented server and others: `scripts/bench [--quick] [--json FILE]`.

Each system runs in a process of its own on one core; the broker (Mosquitto) and the load run on another. CPU is that
of the system's process alone. Ends with 1 unless every message that was sent has come, once, where it should, and every
app was let in. With --all also Node-RED with a flow that rings the right app (node_red) and Mosquitto's own WebSocket,
on which each app subscribes to what its device says (mosquitto_ws). npm installs its packages at first use; what is not
there is left out by name.

After the wakes comes a storm: many apps connect, all hang up, and all come again at once; the second time is told.
At most 2,000 wait to be greeted at a time: beyond a server's backlog the kernel drops what comes and asks again a
second later. With --stall, sarvis and guide are also asked for their longest stall: 10,000 apps beat in turn, and what
the server did meanwhile is told as far as one sees from outside. A load that is busy nearly all the time is told, too.

--growth measures something else: the bridge with more and more apps, each step with a fresh one, beside guide up to
1,000; from 10,000 apps on also half a minute of living, in which all apps beat and some are woken; and the look for due
deadlines with a million users. A step for which there are not enough open files is left out by name.

`python -m tools.bench.plots REPORT.json [GROWTH.json] --folder docs` draws what the two write.
"""

import argparse
import gc
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tools.bench import growth
from tools.bench.apps import Lost
from tools.bench.floor import floor
from tools.bench.load import Load
from tools.bench.measuring import Plan, measure
from tools.bench.npm import NotHereError
from tools.bench.processes import Cores, allow_many_files, on_core, too_many
from tools.bench.report import Results, describe_machine, tell, verdict
from tools.bench.systems import FLOOR, NAMES, ONLY_WITH_ALL, SYSTEMS, mosquitto, profiled

FRAME_BYTES = 190
"""A wake's frame on sarvis.v2."""


def main() -> None:
    """Measure and tell."""
    arguments = _arguments()
    allow_many_files()
    # A pause of the load's own would be taken for one of the system's.
    gc.disable()
    cores = Cores.of_this_machine()
    if arguments.profile is not None:
        _profile(arguments.profile, arguments.apps, arguments.events, arguments.outstanding, cores)
        return
    if cores.system is None:
        print("one core: nothing is pinned, and the load takes time from what it measures")
    if cores.load is not None:
        os.sched_setaffinity(0, {cores.load})
    sys.exit(growth.run(_growth_plan(arguments), cores, arguments.json) if arguments.growth else _run(arguments, cores))


def _run(arguments: argparse.Namespace, cores: Cores) -> int:
    left_out: dict[str, str] = {}
    storm, stall_apps = (
        _what_fits(name, apps, left_out)
        for name, apps in (("storm", arguments.storm), ("stall", arguments.stall_apps if arguments.stall else 0))
    )
    plan = Plan(
        arguments.apps, arguments.events, arguments.outstanding, arguments.rounds, storm, stall_apps,
        3.0 if arguments.quick else 10.0,
    )  # fmt: skip
    machine = describe_machine(
        cores, apps=plan.apps, events=plan.events, outstanding=plan.outstanding, rounds=plan.rounds, storm=plan.storm
    )
    results = Results()
    for number in range(1, plan.rounds + 1):
        for name in arguments.systems:
            if name in left_out:
                continue
            print(f"round {number} of {plan.rounds}: {name}", file=sys.stderr, flush=True)
            try:
                _measure_one(name, plan, cores, results)
            except NotHereError as error:
                left_out[name] = str(error)
            except (Lost, AssertionError) as error:
                # The others are measured all the same.
                results.add(name, None, {}, 0, 0, [f"round {number} ended early: {error}"])
    rows = results.rows()
    tell(machine, rows, left_out)
    if arguments.json is not None:
        report = {"machine": machine, "rows": rows, "left_out": left_out}
        arguments.json.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    return verdict(rows)


def _what_fits(name: str, apps: int, left_out: dict[str, str]) -> int:
    why = too_many(apps)
    if why is None:
        return apps
    left_out[name] = why
    return 0


def _measure_one(name: str, plan: Plan, cores: Cores, results: Results) -> None:
    if name == FLOOR:
        cpu_us, per_s = floor(plan.apps, plan.events, FRAME_BYTES, cores)
        results.add(name, None, {"cpu_us_per_event": cpu_us, "events_per_s": per_s}, plan.events, plan.events, ())
    else:
        measure(SYSTEMS[name], plan, cores, results)


def _profile(file: Path, apps: int, events: int, outstanding: int, cores: Cores) -> None:
    """The bridge under cProfile while wakes come with QoS 1."""
    system = profiled(SYSTEMS["sarvis"], file)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, mosquitto(Path(folder), cores.load) as (_, mqtt_port):
        with on_core(cores.system):
            running = system.start(Path(folder), mqtt_port, apps)
        try:
            with on_core(cores.load), Load(running.port, mqtt_port, apps=apps, v2=system.v2) as load:
                load.come(apps)
                load.wakes(1, events, outstanding)()
        finally:
            running.process.stop()
    print(f"python -m pstats {file} reads it")


def _growth_plan(arguments: argparse.Namespace) -> growth.Plan:
    quick = arguments.quick
    return growth.Plan(
        steps=arguments.steps or ((100, 300, 1_000) if quick else growth.STEPS),
        events=arguments.events,
        outstanding=arguments.outstanding,
        living_from=1_000 if quick else 10_000,
        living_s=3.0 if quick else 30.0,
        users=100_000 if quick else 1_000_000,
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="100 apps and 2,000 wakes instead of 1,000 and 20,000")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there, too")
    parser.add_argument("--rounds", type=_positive, default=3, help="of which the median is told; 3")
    parser.add_argument("--systems", type=_systems, help=f"some of {', '.join(NAMES)}, without spaces")
    parser.add_argument(
        "--all", action="store_true", help=f"all systems, {' and '.join(ONLY_WITH_ALL)}, too; and --stall"
    )
    parser.add_argument("--apps", type=_positive)
    parser.add_argument("--events", type=_positive, help="wakes at full rate, for each QoS")
    parser.add_argument("--outstanding", type=_positive, default=64, help="wakes on their way, at most; 64")
    parser.add_argument("--storm", type=_count, metavar="APPS", help="5,000, with --quick 500; 0: no storm")
    parser.add_argument("--stall", action="store_true", help="look for the longest stall of sarvis and guide")
    parser.add_argument("--stall-apps", type=_positive, metavar="APPS", help="10,000, with --quick 1,000")
    parser.add_argument("--growth", action="store_true", help="what it costs as work grows, instead of all that")
    parser.add_argument(
        "--steps", type=_steps, metavar="APPS,...", help=f"of --growth; {','.join(map(str, growth.STEPS))}"
    )
    parser.add_argument("--profile", type=Path, metavar="FILE", help="only run the bridge, under cProfile")
    arguments = parser.parse_args()
    usual = NAMES if arguments.all else [name for name in NAMES if name not in ONLY_WITH_ALL]
    arguments.systems = arguments.systems or usual
    arguments.stall |= arguments.all
    for name, much, little in (
        ("apps", 1_000, 100), ("events", 20_000, 2_000), ("storm", 5_000, 500), ("stall_apps", 10_000, 1_000)
    ):  # fmt: skip
        if getattr(arguments, name) is None:
            setattr(arguments, name, little if arguments.quick else much)
    if arguments.events < 4:
        parser.error("--events must be at least 4")
    return arguments


def _systems(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise argparse.ArgumentTypeError(f"no system {', '.join(unknown)}; there are {', '.join(NAMES)}")
    return names


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{number} is below 0")
    return number


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is below 1")
    return number


def _steps(text: str) -> Sequence[int]:
    return [_positive(part) for part in text.split(",")]


if __name__ == "__main__":
    main()
