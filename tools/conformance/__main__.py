"""`python -m tools.conformance [ours|mosquitto] [SCRIPT ...]`: Mosquitto's tests of a broker, on ours or on its own."""

import contextlib
import os
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from broker.server.embedded import quieten_amqtt
from tools.conformance import script
from tools.conformance.known import DEVIATIONS, NOT_APPLICABLE
from tools.conformance.suite import NotHereError, scripts_folder

AT_ONCE = 16
SCRIPT_S = 45.0
BROKERS = ("ours", "mosquitto")
TELLING = 12
"""Lines that are shown of what a failed script says."""


@dataclass
class Running:
    """A script in a process of its own."""

    name: str
    pid: int
    output: IO[str]
    until: float


def main(arguments: list[str]) -> int:
    """Run scripts, print a table; 0 if each does as is known, 1 if one does not, 2 if the suite cannot be had."""
    ours = not arguments or arguments[0] != "mosquitto"
    names = [name for name in arguments if name not in BROKERS]
    quieten_amqtt()
    try:
        with scripts_folder() as folder:
            names = names or sorted(each.name for each in folder.glob("[01]?-*.py"))
            return _report(_results(folder, names, ours), ours)
    except NotHereError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _report(results: Iterable[tuple[str, int, str]], ours: bool) -> int:
    counts: Counter[str] = Counter()
    surprises = 0
    for name, code, said in results:
        deviates = ours and name in DEVIATIONS
        surprises += (code == script.FAILED) != deviates and code != script.NOT_APPLICABLE
        word, reason = {
            script.PASSED: ("passed", "although it is a known deviation" if deviates else ""),
            script.NOT_APPLICABLE: ("not applicable", said.rstrip().rpartition("not applicable: ")[2]),
        }.get(code, ("deviates" if deviates else "failed", DEVIATIONS.get(name, "") if ours else ""))
        counts[word] += 1
        print(f"{word:15} {name:45} {reason}".rstrip(), flush=True)
        if word == "failed":
            print("\n".join(f"    {line}" for line in said.splitlines()[-TELLING:]))
    print(", ".join(f"{count} {word}" for word, count in sorted(counts.items())))
    return 1 if surprises else 0


def _results(folder: Path, names: list[str], ours: bool) -> Iterator[tuple[str, int, str]]:
    waiting, running = list(reversed(names)), list[Running]()
    while waiting or running:
        while waiting and len(running) < AT_ONCE:
            name = waiting.pop()
            if name in NOT_APPLICABLE:
                yield name, script.NOT_APPLICABLE, NOT_APPLICABLE[name]
            else:
                running.append(_begin(folder, name, ours=ours))
        for each in running[:]:
            pid, status = os.waitpid(each.pid, os.WNOHANG)
            if not pid and time.monotonic() > each.until:
                os.killpg(each.pid, signal.SIGKILL)
                each.output.write(f"\nit had not ended after {SCRIPT_S:g} s\n")
                _, status = os.waitpid(each.pid, 0)
            elif not pid:
                continue
            with contextlib.suppress(ProcessLookupError):  # brokers that a script has started and not ended
                os.killpg(each.pid, signal.SIGKILL)
            running.remove(each)
            each.output.seek(0)
            yield each.name, max(os.waitstatus_to_exitcode(status), -1) % 256, each.output.read()
            each.output.close()
        time.sleep(0.01)


def _begin(folder: Path, name: str, *, ours: bool) -> Running:
    """Fork: the modules are loaded already, and what a script does to its process ends with it."""
    output = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115  # closed when it is read
    pid = os.fork()
    if pid:
        return Running(name, pid, output, time.monotonic() + SCRIPT_S)
    code = script.FAILED
    with contextlib.suppress(BaseException), _told(output):
        code = script.run(folder, name, ours=ours)
    os._exit(code)


@contextmanager
def _told(output: IO[str]) -> Iterator[None]:
    """What is written, and a traceback, goes to the file."""
    os.setpgid(0, 0)
    os.dup2(output.fileno(), 1)
    os.dup2(output.fileno(), 2)
    try:
        yield
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
