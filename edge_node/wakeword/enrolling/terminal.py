"""Lines that a person types, without waiting for them: a plain terminal, also over SSH."""

import os
import select


class Lines:
    """Of a file descriptor; what is typed before a line is asked for is not lost.

    Attributes:
        ended: nobody can type any more.
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
        except OSError:  # a terminal that was closed
            chunk = b""
        self.ended = not chunk
        self._rest += chunk
