"""Detects a node that no longer scores frames, and feeds systemd's watchdog.

systemd's protocol is one datagram per word (sd_notify(3)); it needs no library.
"""

import socket
from collections.abc import Callable, Mapping

from contract.errors import SarvisError

DEAF_S = 60.0

Notify = Callable[[str], None]


class DeafError(SarvisError):
    """The process runs, but no frame was scored for too long."""


def notifier(environment: Mapping[str, str]) -> Notify:
    """Sends systemd lines like `READY=1`; does nothing if systemd did not ask for it."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address:
        return lambda _line: None
    if address.startswith("@"):
        address = "\0" + address[1:]

    def notify(line: str) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            # A full queue of systemd must not stop the node; the next call tries again.
            sender.setblocking(False)
            try:
                sender.sendto(line.encode(), address)
            except OSError:
                return

    return notify


def watchdog_s(environment: Mapping[str, str], pid: int) -> float | None:
    """The interval within which systemd expects a keep-alive; None if it expects none."""
    wanted = environment.get("WATCHDOG_USEC", "")
    meant = environment.get("WATCHDOG_PID", str(pid)) == str(pid)
    return int(wanted) / 1e6 if wanted.isdecimal() and int(wanted) > 0 and meant else None


class Watchdog:
    """Call `look` often; no I/O except through `notify`.

    Args:
    notify: sends lines to systemd.
    every_s: as `watchdog_s`.
    deaf_s: how long a node may go without a scored frame; None for ever.
    """

    def __init__(self, notify: Notify, every_s: float | None, deaf_s: float | None, now: float) -> None:
        self._notify = notify
        self._every_s = every_s
        self._deaf_s = deaf_s
        self._scored = 0
        self._heard_at = now
        self._fed_at = float("-inf")

    def look(self, scored: int, now: float) -> None:
        """`scored` frames since the start; raises DeafError if that has not grown for `deaf_s`."""
        if scored > self._scored:
            if self._scored == 0:
                self._notify("READY=1\nSTATUS=listening")
            self._scored, self._heard_at = scored, now
            if self._every_s is not None and now - self._fed_at >= self._every_s / 4:
                self._fed_at = now
                self._notify("WATCHDOG=1")
        elif self._deaf_s is not None and now - self._heard_at >= self._deaf_s:
            raise DeafError(f"no frame has been scored for {self._deaf_s:g} s")
