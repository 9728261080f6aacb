"""What each optimisation brings: each taken back alone. `python -m tools.bench.ablation [--rounds N] [--events N]`."""

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from infra.cli_output import say_table
from tools.bench.measuring import Watch
from tools.bench.processes import Cores, allow_many_files, cpu_s, on_core, resident_kib
from tools.bench.systems import SYSTEMS, mosquitto, start_sarvis

APPS, OUTSTANDING, CONNECTIONS = 1000, 64, 8
PLAIN = {"SARVIS_BRIDGE__WEBSOCKET": "plain"}


@dataclass(frozen=True)
class Variant:
    """The bridge with these settings, and without these things."""

    name: str
    settings: dict[str, str]
    without: str = ""


VARIANTS = (
    Variant("nothing", {}),
    Variant("the fast WebSocket", PLAIN),
    Variant("the way past paho", {"SARVIS_MQTT__FAST": "false"}),
    Variant("no line of the log for a wake", {}, "log_lines"),
    Variant("uvloop", {}, "asyncio_loop"),
    Variant("msgspec for wakes", {}, "pydantic_wakes"),
    Variant("msgspec for what apps say", {}, "json_frames"),
    Variant("one time stamp per millisecond", {}, "stamps"),
    Variant("counters without locks", {}, "counters"),
    Variant("the fast WebSocket and uvloop", PLAIN, "asyncio_loop"),
)
HEAD = ("taken back", "CPU µs/wake", "CPU µs/heartbeat", "CPU µs/HTTP", "CPU µs/connect", "KiB/conn")
Numbers = tuple[float, ...]


def measure(variant: Variant, cores: Cores, events: int) -> Numbers:
    """One round of one variant, in the order of HEAD."""
    start = partial(start_sarvis, more=variant.settings, without=variant.without)
    system = replace(SYSTEMS["sarvis"], start=start)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, mosquitto(Path(folder), cores.load) as broker:
        with on_core(cores.system):
            running = system.start(Path(folder), broker[1], APPS)
        try:
            with on_core(cores.load):
                return _numbers(Watch(system, running, broker), events)
        finally:
            running.process.stop()


def _numbers(watch: Watch, events: int) -> Numbers:
    watch.warm_up(APPS, events)
    with watch.load(APPS) as load:
        kib, spent = resident_kib(watch.pid), cpu_s(watch.pid)
        load.come(APPS)
        connect_us = (cpu_s(watch.pid) - spent) / APPS * 1e6
        load.rest(0.5)
        kib_each = (resident_kib(watch.pid) - kib) / APPS
        spent, account = cpu_s(watch.pid), load.wakes(1, events, OUTSTANDING)()
        load.outcomes(2 * events)
        wake_us = (cpu_s(watch.pid) - spent) / events * 1e6
        assert account.received == account.sent
        spent, _ = cpu_s(watch.pid), load.heartbeats(events, OUTSTANDING)()
        beat_us = (cpu_s(watch.pid) - spent) / events * 1e6
        spent, _ = cpu_s(watch.pid), load.triggers(events // 4, CONNECTIONS)()
        http_us = (cpu_s(watch.pid) - spent) / (events // 4) * 1e6
    return wake_us, beat_us, http_us, connect_us, kib_each


def _cell(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def main() -> None:
    """Measure all in turn, and tell the medians."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.ablation", description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--events", type=int, default=12_000)
    arguments = parser.parse_args()
    allow_many_files()
    cores = Cores.of_this_machine()
    found: dict[str, list[Numbers]] = {variant.name: [] for variant in VARIANTS}
    for number in range(1, arguments.rounds + 1):
        for variant in VARIANTS:
            print(f"round {number} of {arguments.rounds}: without {variant.name}", flush=True)
            found[variant.name].append(measure(variant, cores, arguments.events))
    say_table(HEAD, [[name, *map(_cell, zip(*rounds, strict=True))] for name, rounds in found.items()])


if __name__ == "__main__":
    main()
