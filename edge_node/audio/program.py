"""A program that writes sound to its standard output, such as arecord, as a recorder."""

import contextlib
import errno
import os
import select
import shlex
import shutil
import subprocess
import threading
import time
from pathlib import Path

import numpy as np

from contract.errors import SettingsError, StartError
from edge_node.audio.capture import Kind, Recorder
from edge_node.audio.format import SAMPLE_RATE_HZ
from edge_node.audio.ring import Block, Ring
from edge_node.audio.stream import RAW, Format, SoundStream
from edge_node.child_process import Child, how_it_ended, last_line, printable

BLOCK_S = 0.02

_CHUNK_BYTES = 1 << 16
_LOOK_MS = 250
_SAID_BYTES = 4096
_LAST_WORDS_S = 0.5
"""Time for a program's messages and exit status after its sound has ended."""
_TERMINATE_S = 1.0
_JOIN_S = 1.0
_OF_A_SHELL = {"|", "||", "&&", "&", ";", ">", ">>", "<", "2>", "2>&1"}


class ProgramRecorder:
    """Sound from a program that is started without a shell: raw, mono, or with a header (`edge_node.audio.stream`).

    Its standard error is passed on, and its last line is remembered. Raises StartError if it cannot be started.

    Args:
    rate_hz: of raw sound.
    channel: of sound with a header, from 1.
    """

    def __init__(self, command: str, ring: Ring, *, rate_hz: int | None = None, channel: int = 1) -> None:
        self.rate_hz = rate_hz or SAMPLE_RATE_HZ
        self._ring = ring
        self._closing = False
        self._stream = SoundStream(Format(self.rate_hz), channel)
        self._refused: SettingsError | None = None
        self._said = b""
        self._heard = False
        self._pending: list[Block] = []
        self._arguments = _words(command)
        try:
            self._child = Child(self._arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        except (OSError, ValueError) as error:
            raise StartError(
                f"The source 'exec:{printable(command)}' cannot be started: {self._no_start(error)}"
            ) from error
        self._thread = threading.Thread(target=self._read, name="recorder", daemon=True)
        self._thread.start()

    def alive(self) -> bool:
        """See `Recorder`."""
        return self._thread.is_alive()

    def close(self) -> None:
        """See `Recorder`; also ends everything that the program has started. Takes at most three seconds."""
        self._closing = True
        self._child.end(_TERMINATE_S)
        self._thread.join(_JOIN_S)
        if not self._thread.is_alive():  # otherwise it may still use the number of another file
            self._child.close_pipes()

    def why(self) -> str:
        """Why it delivers no sound, in words; raises SettingsError if its output is not sound."""
        if self._refused is not None:
            raise SettingsError(f"The program '{self._name}' cannot be used: {self._refused}")
        status = self._child.wait(0.0 if self._thread.is_alive() else _LAST_WORDS_S)
        if status is not None:
            told = f"the program '{self._name}' {how_it_ended(status)}"
        elif self._thread.is_alive():
            told = f"the program '{self._name}' runs, and writes nothing: is its microphone plugged in?"
        else:
            told = f"the program '{self._name}' has closed its output, and runs"
        if said := last_line(self._said):
            told += f"; its last line: {said}"
        elif not self._heard and status == 0:
            told += f" and wrote nothing; {RAW}"
        if _OF_A_SHELL.intersection(self._arguments):
            told += "; it is not run by a shell: for | or > or & write exec:sh -c '...'"
        return told

    @property
    def _name(self) -> str:
        return printable(Path(self._arguments[0]).name)

    def _no_start(self, error: OSError | ValueError) -> str:
        program = self._arguments[0]
        name = printable(program)
        known = {
            errno.EACCES: f"{name} is not executable: chmod +x",
            errno.ENOEXEC: f"{name} is not a program for this machine; a script must begin with #!",
            errno.ENOENT: f"there is no program {name} here: install it, or write its whole path",
        }
        if isinstance(error, OSError) and error.errno == errno.ENOENT and "/" in program:
            known[errno.ENOENT] = f"there is no file {name}"
            if shutil.which(program) is not None:
                known[errno.ENOENT] = f"the program in the first line of {name} (#!) does not exist; install it"
            elif program.startswith("~"):
                known[errno.ENOENT] += ": ~ is not expanded, write the whole path"
        if isinstance(error, OSError) and error.errno is not None:
            return known.get(error.errno) or error.strerror or str(error)
        return str(error)

    # In the reading thread:

    def _read(self) -> None:
        sound, words = self._child.stdout, self._child.stderr
        assert sound is not None and words is not None  # noqa: S101, PT018 they were asked for
        poller = select.poll()
        open_ends = {sound.fileno(), words.fileno()}
        for end in open_ends:
            poller.register(end, select.POLLIN)
        until: float | None = None
        while open_ends and not self._closing and (until is None or time.monotonic() < until):
            for end, _ in poller.poll(_LOOK_MS if until is None else _LOOK_MS / 10):
                chunk = os.read(end, _CHUNK_BYTES)
                if not chunk:
                    poller.unregister(end)
                    open_ends.discard(end)
                elif end == words.fileno():
                    self._pass_on(chunk)
                elif not self._take(chunk):
                    return
            if until is None and sound.fileno() not in open_ends:
                self._put(self._stream.finish(), last=True)
                until = time.monotonic() + _LAST_WORDS_S

    def _take(self, chunk: bytes) -> bool:
        try:
            self._put(self._stream.feed(chunk), last=False)
        except SettingsError as error:
            self._refused = error
            return False
        return True

    def _put(self, samples: Block, *, last: bool) -> None:
        """In pieces of about BLOCK_S: the ring counts pieces."""
        if self._stream.format is not None:
            self.rate_hz = self._stream.format.rate_hz
        self._pending.append(samples)
        waiting = sum(map(len, self._pending))
        size = round(self.rate_hz * BLOCK_S)
        if waiting < size and not (last and waiting):
            return
        whole = np.concatenate(self._pending)
        for at in range(0, waiting - size + 1, size):
            self._ring.put(whole[at : at + size])
        rest = whole[waiting // size * size :]
        self._pending = [] if last else [rest]
        if last and len(rest):
            self._ring.put(rest)
        self._heard = True

    def _pass_on(self, chunk: bytes) -> None:
        self._said = (self._said + chunk)[-_SAID_BYTES:]
        # A blocked standard error must not stop the sound.
        with contextlib.suppress(OSError):
            for at in range(0, len(chunk), select.PIPE_BUF):
                if select.select([], [2], [], 0.0)[1]:
                    os.write(2, chunk[at : at + select.PIPE_BUF])


def _words(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise StartError(f"The source 'exec:{printable(command)}' cannot be started: {error}") from error
    if not words or not words[0]:
        raise StartError(f"The source 'exec:{printable(command)}' has no program; write exec:COMMAND")
    return words


def _explain(recorder: Recorder) -> str:
    return recorder.why() if isinstance(recorder, ProgramRecorder) else "nothing came"


KIND = Kind("The sound of the program", "", _explain)
