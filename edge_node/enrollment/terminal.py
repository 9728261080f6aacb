"""Reads lines that a person types, without blocking; also over SSH."""

import os
import select


class Lines:
    """Lines of a file descriptor; lines typed before they are requested are not lost.

    Attributes:
    ended: the input has ended.
    """

    def __init__(self, descriptor: int = 0) -> None:
        self.ended = False
        self._descriptor = descriptor
        self._rest = b""

    def ready(self) -> list[str]:
        """All lines that are complete by now, without their ends."""
        while not self.ended and select.select([self._descriptor], [], [], 0.0)[0]:
            self._read()
        *complete, self._rest = self._rest.split(b"\n")
        return [one.decode(errors="replace").rstrip("\r") for one in complete]

    def _read(self) -> None:
        try:
            chunk = os.read(self._descriptor, 4096)
        except OSError:  # a closed terminal
            chunk = b""
        self.ended = not chunk
        self._rest += chunk
