"""Starts programs in process groups of their own, so that each can be ended with its children.

Ending only the shell of a pipeline leaves the other programs running, which keep its pipe open. So all members of the
group are ended, and also those that left it for a session of their own: an environment variable identifies them.
"""

import contextlib
import itertools
import os
import re
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from infra.orphans import GUARD

GRACE_S = 1.0
"""Time to end on request, before a program is killed."""

MARK = "EDGE_NODE_PROGRAM"
"""The variable that all processes of a program have; its value is unique to the program."""

_KILLED_S = 0.5
_LOOK_S = 0.02
_LINE_CHARACTERS = 200
_NUMBERS = itertools.count()


class Child:
    """A running program, without a shell and without standard input; `end` it. Raises OSError if it cannot be started.

    It has no terminal: Ctrl-C reaches this process alone, which ends its programs. If this process dies before that,
    a guard ends them.

    Attributes:
    stdout, stderr: as requested.
    """

    def __init__(self, arguments: Sequence[str], *, stdout: int | None = None, stderr: int | None = None) -> None:
        self._mark = f"{os.getpid()}-{next(_NUMBERS)}-{secrets.token_hex(8)}"
        self._process = subprocess.Popen(  # noqa: S603 no shell; what is run is a setting
            list(arguments),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env={**os.environ, **GUARD.environment(), MARK: self._mark},
            start_new_session=True,
        )
        self._ended = False
        GUARD.watch(self._process.pid)

    @property
    def stdout(self) -> IO[bytes] | None:
        """Its standard output, if that is a pipe."""
        return self._process.stdout

    @property
    def stderr(self) -> IO[bytes] | None:
        """Its standard error, if that is a pipe."""
        return self._process.stderr

    def wait(self, timeout_s: float) -> int | None:
        """The exit status of the program, as in `subprocess`; None if it still runs after that time."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def lives(self) -> bool:
        """Whether the program or anything that it started in its group still runs."""
        return self._process.poll() is None or bool(_group(self._process.pid))

    def end(self, grace_s: float = GRACE_S) -> None:
        """End all of it: asked first, killed after `grace_s`; takes at most half a second more. May be called again.

        Raises nothing: a process that SIGKILL does not end hangs in the kernel, and is left.
        """
        if self._ended:
            return
        self._ended = True
        try:
            for signum, time_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, _KILLED_S)):
                if self._gone(signum, time_s):
                    return
        finally:
            GUARD.forget(self._process.pid)

    def close_pipes(self) -> None:
        """Close the pipes once nothing reads from them."""
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()

    def _gone(self, signum: signal.Signals, within_s: float) -> bool:
        """Signal all of it, also what starts meanwhile; returns whether it is gone within that time."""
        until = time.monotonic() + within_s
        told: set[int] = set()
        while True:
            members = self._members()
            # A zombie no longer counts as a member, but must be waited for.
            if not members and self._process.poll() is not None:
                return True
            for pid in members - told:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signum)
            told |= members
            if time.monotonic() >= until:
                return False
            time.sleep(_LOOK_S)

    def _members(self) -> set[int]:
        return _group(self._process.pid) | _marked(f"{MARK}={self._mark}".encode())


def how_it_ended(status: int) -> str:
    """The meaning of a return code of `subprocess`, in words."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


def last_line(said: bytes) -> str:
    """The last line with text, as one short text; without credentials of URLs and control characters."""
    lines = [line for line in re.split(r"[\r\n]+", said.decode(errors="replace")) if line.strip()]
    return printable(lines[-1]) if lines else ""


def printable(text: str) -> str:
    """Fit for a message: one short line, without control characters and without credentials of URLs."""
    shown = "".join(letter if letter.isprintable() else " " for letter in text).strip()
    shown = re.sub(r"(\w+://)[^/\s@]+@", r"\1***@", shown)
    return shown if len(shown) <= _LINE_CHARACTERS else f"{shown[:_LINE_CHARACTERS]}…"


def _processes() -> Iterator[Path]:
    return (found for found in Path("/proc").iterdir() if found.name.isdecimal())


def _group(group: int) -> set[int]:
    """Members of a process group that are not zombies."""
    found: set[int] = set()
    for process in _processes():
        # A process may end at any moment; the name, in brackets, may contain any characters.
        with contextlib.suppress(OSError):
            state, _, its_group, *_ = process.joinpath("stat").read_bytes().rpartition(b")")[2].split()
            if int(its_group) == group and state not in {b"Z", b"X"}:
                found.add(int(process.name))
    return found


def _marked(mark: bytes) -> set[int]:
    """Processes with that variable in their environment, in any group."""
    found: set[int] = set()
    for process in _processes():
        with contextlib.suppress(OSError):  # also those of other users
            if mark in process.joinpath("environ").read_bytes().split(b"\0"):
                found.add(int(process.name))
    return found
