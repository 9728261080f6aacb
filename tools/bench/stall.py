"""The longest time for which a server does not answer, and what it did meanwhile as far as one sees from outside."""

import math
import os
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from tools.bench.accounts import Row, quantile
from tools.bench.processes import scheduled_s

Look = Callable[[int], tuple[float, float, float]]


class Beating(Protocol):
    """Apps that can beat."""

    apps: int

    def one_beat(self, app: int) -> float:
        """Seconds until the answer; raises Lost."""


def look(pid: int) -> tuple[float, float, float]:
    """Seconds that a server's main thread has run, that it had no core, and that this process had none; or NaN."""
    ran, waited = scheduled_s(pid)
    return ran, waited, scheduled_s(os.getpid())[1]


def measure_stall(
    load: Beating, pid: int, seconds: float, *, look: Look = look, clock: Callable[[], float] = time.monotonic
) -> Row:
    """Each app beats in turn, one at a time, so that one beat is always waiting; the longest one is told.

    Time in which this load itself had no core is taken off. With the longest: how long of it the server's main thread
    was computing, and how long it had no core. What is left it waited for something else, a disk or a lock.
    Raises Lost.
    """
    stalls: list[float] = []
    row: Row = {}
    longest = -1.0
    before = look(pid)
    deadline = clock() + seconds
    while clock() < deadline:
        latency = load.one_beat(len(stalls) % load.apps)
        after = look(pid)
        ran, waited, ours = (now - then for now, then in zip(after, before, strict=True))
        stall = latency if math.isnan(ours) else max(latency - ours, 0.0)
        if stall > longest:
            longest = stall
            row = {"stall_us": stall * 1e6, "stall_ran_us": ran * 1e6, "stall_no_core_us": waited * 1e6}
        stalls.append(stall)
        before = after
    return {**row, "stall_p99_us": quantile(stalls, 0.99) * 1e6}


def cause(row: Mapping[str, float | None]) -> str | None:
    """What the server did in its longest stall, as a sentence; None of no stall."""
    whole = row.get("stall_us")
    if not whole:
        return None
    ran, no_core = (row.get(f"stall_{name}_us") or 0.0 for name in ("ran", "no_core"))
    shares = {
        "it was computing": ran,
        "it had no core": no_core,
        "it waited for something else": whole - ran - no_core,
    }
    told = [f"{what} {min(part / whole, 1.0):.0%}" for what, part in shares.items() if part / whole > 0.05]
    return f"longest stall {whole / 1000:,.1f} ms; of that {', '.join(told) or 'nothing is known'}"
