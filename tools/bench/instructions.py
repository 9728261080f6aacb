"""How many instructions the bridge needs for a wake and more, by valgrind: `python -m tools.bench.instructions`.

On a machine that others share, times say little; these counts hardly change from run to run. Counted is what a bridge
does in its process between the bytes that came and the bytes that go, without kernel, broker and database: all of it
runs in this process, with a store in memory. With `--checkout FOLDER` the same is counted with the code of another
checkout, too, in turn. Needs valgrind with its headers, and a C compiler.
"""

import argparse
import asyncio
import ctypes
import gc
import importlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import structlog

ROOT = Path(__file__).parents[2]
WARM_UP, TIMES = 300, 1000
FLUSHED_AFTER = 100
"""Acts between two ticks of the bridge, in which it hands over the stories of what happened."""
NAMES = ("wake", "ack", "heartbeat", "log-in and log-out")
TOTALS = re.compile(r"^(?:totals|summary): (\d+)", re.MULTILINE)
SWITCH = """
#include <valgrind/callgrind.h>
void begin(void) { CALLGRIND_START_INSTRUMENTATION; CALLGRIND_ZERO_STATS; }
void end(void) { CALLGRIND_DUMP_STATS; CALLGRIND_STOP_INSTRUMENTATION; }
"""


def main() -> None:
    """Print a line for each act: the median, the smallest and the largest of some runs, by checkout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkout", type=Path, action="append", default=[], help="count with its code, too")
    parser.add_argument("--rounds", type=int, default=3, help="each with another seed of Python's hashes; 3")
    parser.add_argument(
        "--setting", action="append", default=[], help="count this checkout once more with it: bridge.stories_days=0"
    )
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--settings", default="{}", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        asyncio.run(_Inside(given.inside, json.loads(given.settings)).run())
        return
    builds = [(folder.resolve(), "") for folder in given.checkout]
    builds += [(ROOT, ""), *((ROOT, setting) for setting in given.setting)]
    counted: dict[tuple[Path, str], list[list[float]]] = {build: [] for build in builds}
    with tempfile.TemporaryDirectory(prefix="instructions-") as work:
        switch = _switch(Path(work))
        for seed in range(given.rounds):
            for folder, setting in builds:
                counted[folder, setting].append(_count(folder, setting, switch, seed))
    for number, name in enumerate(NAMES):
        said: dict[str, Any] = {"act": name}
        for (folder, setting), counts in counted.items():
            runs = [run[number] for run in counts]
            said[f"{folder} {setting}".strip()] = [round(statistics.median(runs)), round(min(runs)), round(max(runs))]
        print(json.dumps(said), flush=True)


def _switch(folder: Path) -> Path:
    """A library that lets valgrind begin and end to count."""
    source, library = folder / "switch.c", folder / "switch.so"
    source.write_text(SWITCH, encoding="ascii")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    return library


def _count(folder: Path, setting: str, switch: Path, seed: int) -> list[float]:
    """Instructions for each act of NAMES."""
    settings = json.dumps(tomllib.loads(setting))
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONHASHSEED": str(seed)}
    with tempfile.TemporaryDirectory(prefix="instructions-") as out:
        command = [
            "valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={out}/counts",
            sys.executable, __file__, "--inside", str(switch), "--settings", settings,
        ]  # fmt: skip
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr)
        dumps = [Path(out) / f"counts.{number}" for number in range(1, len(NAMES) + 1)]
        return [int(TOTALS.findall(dump.read_text())[-1]) / TIMES for dump in dumps]


class _Clock:
    """A clock that goes on a little with each look."""

    def __init__(self) -> None:
        self._now = 1000.0

    def monotonic(self) -> float:
        self._now += 1e-5
        return self._now

    def utc_now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    async def sleep(self, _seconds: float) -> None:
        await asyncio.Event().wait()


class _Transport(asyncio.Transport):
    """Counts what the bridge writes."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0

    def write(self, _data: Any) -> None:
        self.writes += 1

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        raise AssertionError("the bridge closed the connection")

    abort = close


def _frame(message: dict[str, Any]) -> bytes:
    """A client's text frame, masked with zeros."""
    payload = json.dumps(message).encode()
    return bytes([0x81, 0x80 | len(payload), 0, 0, 0, 0]) + payload


def _run(coroutine: Coroutine[Any, Any, Any]) -> None:
    """Of one that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise AssertionError("it waited")


def _nothing() -> None:
    """An earlier checkout has nothing to hand over."""


class _Inside:
    """Does each act of NAMES, warmed up and then counted, with the code of PYTHONPATH."""

    def __init__(self, switch: Path, settings: dict[str, Any]) -> None:
        self._switch = ctypes.CDLL(str(switch))
        self._settings = settings
        self._flush: Callable[[], None] = _nothing
        self._transport = _Transport()

    async def run(self) -> None:
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
        await self._open()
        gc.disable()
        acts = [(self._wake, 1), (self._ack, 0), (self._heartbeat, 1), (self._log_in_and_out, 0)]
        for act, writes in acts:
            before = self._transport.writes
            for number in range(WARM_UP):
                act(f"a{number:05}")
            assert self._transport.writes - before == WARM_UP * writes, act
        for act, _ in acts:
            self._counted(act)

    def _counted(self, act: Callable[[str], None]) -> None:
        ids = [f"b{number:05}" for number in range(TIMES)]
        self._switch.begin()
        for number, one in enumerate(ids, 1):
            act(one)
            # An app confirms within the same tick: what is handed over counts once, with the wake.
            if act == self._wake and number % FLUSHED_AFTER == 0:
                self._flush()
        self._switch.end()

    async def _open(self) -> None:
        """Import only now: what PYTHONPATH names is counted, not what stands beside this file."""
        get = importlib.import_module
        plenty = "9999999/second"
        limits = get("infra.settings.bridge").LimitsSettings(frames=plenty, device=plenty)
        settings = get("infra.settings.loader").Settings.model_validate({**self._settings, "limits": limits})
        store = get("bridge.storage.memory").MemoryStore()
        self._bridge = bridge = get("bridge.service").Bridge(settings, store, _Clock())
        chronicle = getattr(bridge, "chronicle", None)
        if chronicle is not None:
            self._flush = self._handing_over(chronicle)
        self._name = get("contract.topics").WAKE.name(settings.mqtt.prefix, "jetson").encode()
        self._acker = SimpleNamespace(ack=lambda _mid, _qos: None)
        # As with a broker: a wake whose device cannot be told takes another way.
        bridge.relay._tell = lambda _device_id, _outcome: True
        await bridge.sessions.load()
        stream = get("bridge.websocket.stream.connection")
        accepted = get("bridge.websocket.stream.handshake").AcceptedHandshake(
            "alice", "v2", get("bridge.auth.principals").EVERYBODY, None, b"HELLO"
        )
        server = SimpleNamespace(connections=set(), tasks=set())
        state = stream.StreamServerState(bridge, 13.0)
        self._connection = stream.StreamConnection(state, self._transport, accepted, server)
        self._connection.begin(b"HELLO")
        async with asyncio.timeout(60):
            while not self._transport.writes:  # noqa: ASYNC110 - it happens on this loop
                await asyncio.sleep(0.01)

    def _handing_over(self, chronicle: Any) -> Callable[[], None]:
        """Everything but the file, which a thread of its own writes: encoding the stories is done on the loop."""
        encoded = importlib.import_module("bridge.stories.file").encoded

        def flush() -> None:
            stories = [] if chronicle.book is None else chronicle.book.take()
            if stories:
                encoded(stories)

        return flush

    def _wake(self, wake_id: str) -> None:
        said = {"id": wake_id, "uid": "alice", "command": "wake_up", "timestamp": "2026-01-01T00:00:00+00:00"}
        payload = json.dumps({**said, "v": 1, "device_id": "jetson", "boot": 1, "seq": 1, "score": 0.99}).encode()
        self._bridge.mqtt._take(self._acker, self._name, payload, 1, False, 1)

    def _ack(self, wake_id: str) -> None:
        self._connection.data_received(_frame({"type": "ack", "id": wake_id}))

    def _heartbeat(self, number: str) -> None:
        self._connection.data_received(_frame({"type": "heartbeat", "seq": int(number[1:])}))

    def _log_in_and_out(self, _id: str) -> None:
        _run(self._bridge.sessions.login("bob", "jetson", "app"))
        _run(self._bridge.sessions.logout("bob", "app"))


if __name__ == "__main__":
    main()
