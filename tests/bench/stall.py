"""The longest time for which a server does not answer, and what it did meanwhile as far as one sees from outside."""

import os
import time
from collections.abc import Mapping

from tests.bench.accounts import Row, quantile
from tests.bench.load import Load
from tests.bench.processes import scheduled_s


def measure_stall(load: Load, pid: int, seconds: float) -> Row:
    """Each app beats in turn, one at a time, so that one beat is always waiting; the longest one is told.

    With it, of that time: how long the server's main thread was computing, how long it had no core, and how long this
    load itself had none. What is left it waited for something else, a disk or a lock. Raises Lost.
    """
    latencies: list[float] = []
    longest, row = -1.0, Row()
    before = _look(pid)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        latency = load.one_beat(len(latencies) % load.apps)
        latencies.append(latency)
        after = _look(pid)
        if latency > longest:
            longest = latency
            ran, waited, ours = (now - then for now, then in zip(after, before, strict=True))
            row = {"stall_ran_us": ran * 1e6, "stall_no_core_us": waited * 1e6, "stall_load_no_core_us": ours * 1e6}
        before = after
    return {"stall_us": longest * 1e6, "stall_p99_us": quantile(latencies, 0.99) * 1e6, **row}


def cause(row: Mapping[str, float | None]) -> str | None:
    """What the server did in its longest stall, as a sentence; None of no stall."""
    whole = row.get("stall_us")
    if not whole:
        return None
    ran, no_core, ours = (row.get(f"stall_{name}_us") or 0.0 for name in ("ran", "no_core", "load_no_core"))
    shares = {
        "it was computing": ran,
        "it had no core": no_core,
        "the load had no core": ours,
        "it waited for something else": whole - ran - no_core - ours,
    }
    told = [f"{what} {min(part / whole, 1.0):.0%}" for what, part in shares.items() if part / whole > 0.05]
    return f"longest stall {whole / 1000:,.1f} ms; of that {', '.join(told) or 'nothing is known'}"


def _look(pid: int) -> tuple[float, float, float]:
    ran, waited = scheduled_s(pid)
    return ran, waited, scheduled_s(os.getpid())[1]
