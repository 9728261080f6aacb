"""What a large ledger costs: `python -m tools.bench.ledger [--sessions N ...]`; figures for docs/reliability.md.

Each size runs in a process of its own: memory is that process's, time is CPU time of this thread. The sweep is what the
bridge does twice a second when no user is due; it should not depend on the size. `connect_cpu_us` is what each of 5,000
users costs who come back at once: all threads, without their sockets.
"""

import argparse
import asyncio
import gc
import json
import multiprocessing
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import Any

from bridge.sessions.connect import UserData
from bridge.sessions.devices import Devices
from bridge.sessions.service import Sessions
from bridge.storage.records import DurableDeadline, PendingLogout, Session
from bridge.storage.sqlite.store import SqliteStore
from bridge.storage.store import StoreError
from contract.clock import SystemClock
from infra.settings.bridge import StoreSettings
from infra.settings.loader import Settings

SIZES = (1_000, 1_000_000)
SWEEPS = 2_000
BATCH = 100_000
COME_BACK = 5_000


def main() -> None:
    """Print a line per size and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, nargs="*", default=SIZES)
    rows = []
    for size in parser.parse_args().sessions:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            rows.append(pool.apply(measure, (size,)))
        print(json.dumps(rows[-1]), flush=True)
    if len(rows) > 1:
        ratio = rows[-1]["sweep_us"] / rows[0]["sweep_us"]
        print(f"sweep, {rows[-1]['sessions']:,} sessions against {rows[0]['sessions']:,}: {ratio:.2f} times")


def measure(size: int) -> dict[str, Any]:
    """Load a ledger of that many sessions, one user each, and sweep it."""
    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_measure(Path(folder), size))


async def _measure(folder: Path, size: int) -> dict[str, Any]:
    settings = StoreSettings(url=f"sqlite:///{folder / 'ledger.db'}")
    store = await SqliteStore.open(settings)
    _fill(settings.path, size)
    sessions = Sessions(
        store,
        Settings(),
        SystemClock(),
        Devices(lambda _topic, _owner, _message: True, _post),
        lambda _event: None,
    )
    gc.collect()
    memory = _resident_kib()
    began = time.perf_counter()
    await sessions.load()
    load_s = time.perf_counter() - began
    gc.collect()
    memory = _resident_kib() - memory
    began_cpu = time.thread_time()
    for _ in range(SWEEPS):
        assert not sessions.liveness.mark_due_leaving(100)
        sessions.liveness.forget_long_departed()
    sweep_us = (time.thread_time() - began_cpu) / SWEEPS * 1e6
    tick_us = await _tick_us(sessions)
    connect_us = await _connect_us(sessions)
    await store.close()
    return {
        "sessions": size,
        "sweep_us": round(sweep_us, 2),
        "tick_with_commit_cpu_us": round(tick_us),
        "connect_cpu_us": round(connect_us, 1),
        "bytes_per_session": round(memory * 1024 / size),
        "load_s": round(load_s, 2),
        "ledger_mib": round(settings.path.stat().st_size / 2**20, 1),
    }


async def _post(_row: PendingLogout) -> str | None:
    return None


async def _tick_us(sessions: Sessions) -> float:
    """A whole tick that also keeps the service time; CPU of the process, the database's thread included."""
    ticks = 20
    began = time.process_time()
    for _ in range(ticks):
        sessions._durable_deadlines._kept_at = float("-inf")
        await sessions.tick()
    return (time.process_time() - began) / ticks * 1e6


async def _connect_us(sessions: Sessions) -> float:
    """What each of many costs who connect at once; half of them have a session if there are enough."""
    answers: list[object] = []
    all_are = asyncio.Event()

    def answered(answer: UserData | StoreError) -> None:
        answers.append(answer)
        if len(answers) == COME_BACK:
            all_are.set()

    await sessions.connected("somebody")  # statements are compiled
    began = time.process_time()
    for number in range(COME_BACK):
        sessions.connect_soon(f"user-{number}" if number % 2 else f"new-{number}", answered)
    await all_are.wait()
    assert not any(isinstance(answer, StoreError) for answer in answers)
    return (time.process_time() - began) / COME_BACK * 1e6


def _fill(path: Path, size: int) -> None:
    connection = sqlite3.connect(path)
    with connection:
        for start in range(0, size, BATCH):
            numbers = range(start, min(start + BATCH, size))
            rows = [Session(f"{number:032x}", f"jetson-{number}", f"user-{number}", 1) for number in numbers]
            connection.executemany(
                "INSERT INTO sessions (session_id, device_id, uid, generation) VALUES (?, ?, ?, ?)",
                [(row.session_id, row.device_id, row.uid, row.generation) for row in rows],
            )
            promises = [
                DurableDeadline(row.uid, 3660.0 + number % 3000) for number, row in zip(numbers, rows, strict=True)
            ]
            connection.executemany(
                "INSERT INTO promises (uid, until_s, floored) VALUES (?, ?, 0)",
                [(promise.uid, promise.until_s) for promise in promises],
            )
    connection.close()


def _resident_kib() -> int:
    with Path("/proc/self/status").open() as status:
        for line in status:
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
    raise AssertionError("no VmRSS")


if __name__ == "__main__":
    main()
