"""Programs that a node starts: each in a process group of its own, so that all of it can be ended.

A shell that runs a pipeline is not the pipeline: whoever ends only the shell leaves the others running, and they keep
its pipe open. So all members of the group are ended; so are those that left it for a session of their own, which are
known by a variable of their environment.
"""

import atexit
import contextlib
import itertools
import os
import re
import secrets
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO

GRACE_S = 1.0
"""Time to end when asked to, before a program is killed."""

MARK = "EDGE_NODE_PROGRAM"
"""The variable that all processes of a program have; its value is the program's alone."""

_KILLED_S = 0.5
_LOOK_S = 0.02
_LINE_CHARACTERS = 200
_NUMBERS = itertools.count()


class Child:
    """A running program, without a shell and without standard input; `end` it. Raises OSError if it cannot be started.

    It has no terminal: Ctrl-C reaches this process alone, which ends its programs. If this process dies without doing
    so, a guard ends them.

    Attributes:
        stdout, stderr: as asked for.
    """

    def __init__(self, arguments: Sequence[str], *, stdout: int | None = None, stderr: int | None = None) -> None:
        self._mark = f"{os.getpid()}-{next(_NUMBERS)}-{secrets.token_hex(8)}"
        self._process = subprocess.Popen(  # noqa: S603 no shell; what is run is a setting
            list(arguments),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env={**os.environ, MARK: self._mark},
            start_new_session=True,
        )
        self._ended = False
        _guard.watch(self._process.pid)

    @property
    def stdout(self) -> IO[bytes] | None:
        """Its standard output, if that is a pipe."""
        return self._process.stdout

    @property
    def stderr(self) -> IO[bytes] | None:
        """Its standard error, if that is a pipe."""
        return self._process.stderr

    def wait(self, timeout_s: float) -> int | None:
        """How the program itself ended, as `subprocess` says it; None if it has not within that time."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def lives(self) -> bool:
        """Whether the program or anything that it started in its group still runs."""
        return self._process.poll() is None or bool(_group(self._process.pid))

    def end(self, grace_s: float = GRACE_S) -> None:
        """End all of it: asked first, killed after `grace_s`; takes at most half a second more. Any number of times.

        Raises nothing: what even SIGKILL does not end hangs in the kernel, and is left.
        """
        if self._ended:
            return
        self._ended = True
        try:
            for signum, time_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, _KILLED_S)):
                if self._gone(signum, time_s):
                    return
        finally:
            _guard.forget(self._process.pid)

    def close_pipes(self) -> None:
        """Once nobody reads from them any more."""
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()

    def _gone(self, signum: signal.Signals, within_s: float) -> bool:
        """Signal all of it, also what is started meanwhile; whether it is gone within that time."""
        until = time.monotonic() + within_s
        told: set[int] = set()
        while True:
            members = self._members()
            # A zombie is no member any more, and is to be waited for all the same.
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
    """What a return code of `subprocess` means, for people."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


def last_line(said: bytes) -> str:
    """The last line that says something, as one short text; without credentials of URLs and control characters."""
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
    """Members of a process group that are no zombies."""
    found: set[int] = set()
    for process in _processes():
        # A process may be gone at any moment; the name, in brackets, may hold anything.
        with contextlib.suppress(OSError):
            state, _, its_group, *_ = process.joinpath("stat").read_bytes().rpartition(b")")[2].split()
            if int(its_group) == group and state not in {b"Z", b"X"}:
                found.add(int(process.name))
    return found


def _marked(mark: bytes) -> set[int]:
    """Processes with that in their environment, in whatever group."""
    found: set[int] = set()
    for process in _processes():
        with contextlib.suppress(OSError):  # also those of other users
            if mark in process.joinpath("environ").read_bytes().split(b"\0"):
                found.add(int(process.name))
    return found


class _Guard:
    """Ends what this process leaves behind when it dies of SIGKILL, say: a shell that waits for its end.

    It is started with the first program, and is told the groups that run.
    """

    _SCRIPT = """
        trap '' HUP INT TERM
        groups=
        while read -r sign group; do
            case $sign in
                +) groups="$groups $group" ;;
                -) rest=; for one in $groups; do [ "$one" = "$group" ] || rest="$rest $one"; done; groups=$rest ;;
            esac
        done
        [ -n "$groups" ] || exit 0
        for one in $groups; do kill -s TERM -- "-$one"; done
        sleep 2
        for one in $groups; do kill -s KILL -- "-$one"; done
    """

    def __init__(self) -> None:
        self._changing = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def watch(self, group: int) -> None:
        """End this group, should this process die."""
        with self._changing:
            if self._process is None:
                self._process = self._start()
            self._tell([b"+ %d\n" % group])

    def forget(self, group: int) -> None:
        """It is ended already."""
        with self._changing:
            self._tell([b"- %d\n" % group])

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(  # noqa: S603 a fixed script
            ["/bin/sh", "-c", self._SCRIPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
        atexit.register(self._stop, process)
        return process

    def _stop(self, process: subprocess.Popen[bytes]) -> None:
        # At its end this process has ended its programs: the guard goes at once, or ends what is left.
        if process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_KILLED_S)

    def _tell(self, lines: Iterable[bytes]) -> None:
        pipe = self._process.stdin if self._process is not None else None
        if pipe is not None:
            with contextlib.suppress(OSError, ValueError):  # somebody has ended the guard: it is a second safety only
                pipe.writelines(lines)
                pipe.flush()


_guard = _Guard()
