"""How many files and sockets this process may open, and needs."""

from contract.errors import StartError
from infra.open_files import raise_limit

OWN_FILES = 64
"""Python, the loop, the threads that connect."""
PER_DEVICE = 3
"""The socket, the lock of its state, and that state during a write."""


def make_room(devices: int, apps: int) -> None:
    """Raise the soft limit as far as possible; raises StartError if a fleet of this size would exceed it."""
    needed = OWN_FILES + PER_DEVICE * devices + apps
    allowed = raise_limit(needed)
    if allowed < needed:
        raise StartError(
            f"a fleet of {devices} devices and {apps} apps opens up to {needed} files and sockets, and this process "
            f"may open {allowed}: start fewer, or raise the limit (ulimit -Hn, LimitNOFILE= in systemd)"
        )
