"""Which processes run, by what stands in their command line: for tests that start programs to be ended."""

import contextlib
import os
import signal
from pathlib import Path


def running(words: str, name: str = "") -> set[int]:
    """Processes, no zombies, with these words in their command line; of that name, if one is given."""
    found: set[int] = set()
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            line = process.joinpath("cmdline").read_bytes().replace(b"\0", b" ") if process.name.isdecimal() else b""
            if words.encode() in line and name in process.joinpath("comm").read_text():
                found.add(int(process.name))
    return found - {os.getpid()}


def kill(words: str) -> None:
    """What a test that failed has left."""
    for pid in running(words):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
