"""The socket that systemd gives a unit of Type=notify."""

import socket
from pathlib import Path


class NotifySocket:
    """What it was told is kept; close it."""

    def __init__(self, folder: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(folder / "notify"))
        self._socket.setblocking(False)
        self.lines: list[str] = []

    def settings(self, watchdog_s: float = 2.0) -> dict[str, str]:
        """Variables of a process that shall tell it that all is well within so many seconds, again and again."""
        return {"NOTIFY_SOCKET": self._socket.getsockname(), "WATCHDOG_USEC": str(round(watchdog_s * 1e6))}

    def told(self, word: str) -> int:
        """How often, until now."""
        try:
            while True:
                self.lines += self._socket.recv(1000).decode().splitlines()
        except BlockingIOError:
            return self.lines.count(word)

    def close(self) -> None:
        self._socket.close()
