"""A program that writes sound to its standard output, such as arecord, as a recorder."""

import shlex
import subprocess
import threading

import numpy as np

from contract.errors import StartError
from edge_node.ring import Ring
from edge_node.wakeword.detector import SAMPLE_RATE_HZ

BLOCK_S = 0.02

_BLOCK_BYTES = 2 * round(SAMPLE_RATE_HZ * BLOCK_S)
_TERMINATE_S = 2.0


class ProgramRecorder:
    """Raw s16le mono at 16 kHz from a program, started without a shell; its standard error is this process's."""

    rate_hz = SAMPLE_RATE_HZ

    def __init__(self, command: str, ring: Ring) -> None:
        self._ring = ring
        self._closing = False
        try:
            arguments = shlex.split(command)
            self._process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)  # noqa: S603
        except (OSError, ValueError, IndexError) as error:
            raise StartError(f"The source 'exec:{command}' cannot be started: {error}") from error
        self._thread = threading.Thread(target=self._read, name="recorder", daemon=True)
        self._thread.start()

    def alive(self) -> bool:
        """See `Recorder`."""
        return self._thread.is_alive()

    def close(self) -> None:
        """See `Recorder`; a program that does not end when asked to is killed."""
        self._closing = True
        self._process.terminate()
        try:
            self._process.wait(_TERMINATE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._thread.join()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 it was asked for
        while not self._closing and (chunk := self._process.stdout.read(_BLOCK_BYTES)):
            self._ring.put(np.frombuffer(chunk[: len(chunk) // 2 * 2], "<i2").astype(np.int16))
