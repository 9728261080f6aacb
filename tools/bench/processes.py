"""Processes that are measured: started on a core, watched from outside, ended."""

import math
import os
import re
import resource
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.waiting import wait_for

STOP_WITHIN_S = 20.0
LOOK_S = 0.25
QUIET_SHARE = 0.05
SPARE_FILES = 320
"""What a process opens besides its apps; the bridge keeps 256 free."""


@dataclass(frozen=True)
class Cores:
    """Where processes run; None: wherever the scheduler likes."""

    system: int | None
    load: int | None

    @classmethod
    def of_this_machine(cls) -> "Cores":
        """The first core for the system, the second for everything else, if there are two."""
        cores = sorted(os.sched_getaffinity(0))
        return cls(cores[0], cores[1]) if len(cores) > 1 else cls(None, None)


@contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """Processes that are started in this block run on that core, all their threads included."""
    before = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cpu_s(pid: int) -> float:
    """CPU time that a process has used in all its threads, those that have ended included."""
    # The clock of another process, see clock_getcpuclockid(3): finer than the ticks of /proc/PID/stat.
    return time.clock_gettime(~pid << 3 | 2)


def resident_kib(pid: int) -> int:
    """Memory of a process."""
    return int(_field(Path(f"/proc/{pid}/status").read_text(), "VmRSS"))


def _field(text: str, name: str) -> str:
    found = re.search(rf"^{name}:\s+(\d+)", text, re.MULTILINE)
    assert found, f"no {name}"
    return found[1]


def scheduled_s(pid: int) -> tuple[float, float]:
    """Seconds for which a process's main thread ran, and waited for a core; NaN if the kernel does not count."""
    try:
        ran, waited, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
    except FileNotFoundError:
        return math.nan, math.nan
    return int(ran) / 1e9, int(waited) / 1e9


def allow_many_files() -> None:
    """As many open files as the system allows this process and those that it starts."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def too_many(apps: int, limit: int | None = None) -> str | None:
    """Why this many apps do not fit into the open files of one process, by default this one; None if they do."""
    if limit is None:
        _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = apps + SPARE_FILES
    if limit == resource.RLIM_INFINITY or needed <= limit:
        return None
    return f"{apps:,} apps need {needed:,} open files, in the load and in the system, and `ulimit -Hn` is {limit:,}"


def syn_dropped() -> int:
    """How many connections this machine's listeners had no place for; such a client asks again a second later."""
    lines = Path("/proc/net/netstat").read_text().splitlines()
    names, values = (line.split() for line in lines if line.startswith("TcpExt:"))
    return int(dict(zip(names, values, strict=True))["ListenOverflows"])


def settle(pid: int, within_s: float = 30.0) -> None:
    """Wait until a process has no more to do; returns after that time all the same."""
    deadline = time.monotonic() + within_s
    wanted = math.inf
    while wanted > QUIET_SHARE * LOOK_S and time.monotonic() < deadline:
        before = _wanted_s(pid)
        time.sleep(LOOK_S)
        wanted = _wanted_s(pid) - before


def _wanted_s(pid: int) -> float:
    """CPU time that a process has used, and time in which its main thread was ready and had no core."""
    _, waited_s = scheduled_s(pid)
    return cpu_s(pid) + (0.0 if math.isnan(waited_s) else waited_s)


class Process:
    """A process whose output goes to a file, so that no reader is needed."""

    def __init__(self, name: str, command: Sequence[str], folder: Path, env: Mapping[str, str] | None = None) -> None:
        self._name = name
        self._log = folder / f"{name}.log"
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("SARVIS_")}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env={**inherited, "PYTHONUTF8": "1", **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.pid = self._process.pid

    def said(self, pattern: str) -> str:
        """Wait for output that matches; the first group. What does not say it is ended."""

        def look() -> str | None:
            found = re.search(pattern, self.log)
            assert self._process.poll() is None, f"{self._name} has ended\n{self.log[-3000:]}"
            return found[1] if found else None

        try:
            return wait_for(f"{self._name} says {pattern}", look, 40.0)
        except AssertionError:
            self.stop()
            raise

    @property
    def log(self) -> str:
        """What it said so far."""
        return self._log.read_text(errors="replace")

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """SIGTERM; SIGKILL when it does not obey."""
        self._process.terminate()
        try:
            self._process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
