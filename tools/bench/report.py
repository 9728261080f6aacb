"""What was measured, as rows and for reading."""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from infra.cli_output import say_table
from tools.bench.accounts import BUSY, Row, middle, spread
from tools.bench.processes import Cores
from tools.bench.stall import cause

WAKE_COLUMNS = {
    "cpu_us_per_event": ("CPU µs/wake", ".1f"),
    "events_per_s": ("wakes/s", ",.0f"),
    "p50_us": ("p50 µs", ",.0f"),
    "p99_us": ("p99 µs", ",.0f"),
    "generator_us_per_event": ("load's µs/wake", ".1f"),
    "load_share": ("load", ".0%"),
}
SYSTEM_COLUMNS = {
    "kib_per_connection": ("KiB/conn", ".1f"),
    "connects_per_s": ("connects/s", ",.0f"),
    "cpu_us_per_connect": ("CPU µs/connect", ",.0f"),
    "storm_per_s": ("storm/s", ",.0f"),
    "storm_cpu_us_per_connect": ("CPU µs/storm", ",.0f"),
    "storm_generator_share": ("storm load", ".0%"),
    "cpu_us_per_heartbeat": ("CPU µs/heartbeat", ".1f"),
    "cpu_us_per_http": ("CPU µs/HTTP", ".1f"),
    "stall_us": ("stall µs", ",.0f"),
}
PACKAGES = ("fastapi", "uvicorn", "websockets", "paho-mqtt", "h11", "httptools", "uvloop")

Columns = Mapping[str, tuple[str, str]]


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
                **rounded(middle(rounds)),
                "generator_bound": (middle(rounds).get("load_share") or 0.0) > BUSY,
                "stall_cause": _worst_cause(rounds),
                "spread": {name: rounded(dict(zip(("min", "max"), ends, strict=True)))
                           for name, ends in spread(rounds).items()},
                "rounds": len(rounds),
                "sent": self.sent[key],
                "received": self.received[key],
                "faults": self.faults[key],
            }
            for key, rounds in self.rounds.items()
        ]  # fmt: skip


def verdict(rows: Sequence[dict[str, Any]]) -> int:
    """The exit code: 0 when something was measured and all of it is accounted for."""
    return 0 if rows and all(row["sent"] == row["received"] and not row["faults"] for row in rows) else 1


def rounded(row: Row) -> Row:
    """To be written."""
    return {key: None if value is None else round(value, 3) for key, value in row.items()}


def tell(machine: dict[str, Any], rows: Sequence[dict[str, Any]], left_out: Mapping[str, str]) -> None:
    """Print the tables, what is to be said of single rows, and the sums."""
    say_machine(machine)
    wakes = [row for row in rows if row.get("cpu_us_per_event") is not None]
    say_table(
        ["system", "QoS", *titles(WAKE_COLUMNS)],
        [[row["system"], "-" if row["qos"] is None else str(row["qos"]), *cells(row, WAKE_COLUMNS)] for row in wakes],
    )
    print()
    # What concerns connections stands in both of a system's rows.
    systems = {row["system"]: row for row in wakes if row["qos"] is not None}
    say_table(
        ["system", *titles(SYSTEM_COLUMNS)], [[name, *cells(row, SYSTEM_COLUMNS)] for name, row in systems.items()]
    )
    print()
    for name, why in left_out.items():
        print(f"{name} left out: {why}")
    for row in rows:
        where = row["system"] if row["qos"] is None else f"{row['system']} QoS {row['qos']}"
        if row["generator_bound"]:
            print(f"{where}: generator bound, the load was busy {row['load_share']:.0%}: it may serve more per second")
        for fault in row["faults"]:
            print(f"{where}: {fault}")
    for name, row in systems.items():
        if (row.get("storm_generator_share") or 0.0) > BUSY:
            busy = row["storm_generator_share"]
            print(f"{name}: storm generator bound, the load was busy {busy:.0%}: more may come in per second")
        if row.get("storm_syn_dropped"):
            print(f"{name}: storm: {row['storm_syn_dropped']:,.0f} SYNs found no place and came again a second later")
        if row["stall_cause"]:
            print(f"{name}: {row['stall_cause']}")
    print(f"sent {sum(row['sent'] for row in rows):,}, received {sum(row['received'] for row in rows):,}")


def say_machine(machine: Mapping[str, Any]) -> None:
    """Print where it was measured."""
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    print()


def titles(columns: Columns) -> list[str]:
    """The head of a table."""
    return [title for title, _ in columns.values()]


def cells(row: Mapping[str, Any], columns: Columns) -> list[str]:
    """A row of a table; what is not there is a dash."""
    return ["-" if row.get(key) is None else format(row[key], form) for key, (_, form) in columns.items()]


def describe_machine(cores: Cores, **more: Any) -> dict[str, Any]:
    """Where and with what it was measured."""
    models = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
              if line.startswith("model name")]  # fmt: skip
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "pinned": cores.system is not None,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_average": round(os.getloadavg()[0], 2),
        **more,
        "packages": " ".join(f"{name}=={version}" for name in PACKAGES if (version := _version(name))),
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _worst_cause(rounds: Sequence[Row]) -> str | None:
    return cause(max(rounds, key=lambda row: row.get("stall_us") or 0.0))
