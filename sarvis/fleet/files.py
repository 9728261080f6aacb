"""How many files and sockets this process may open, and needs."""

import resource

from contract.errors import StartError

OWN_FILES = 64
"""Python, the loop, the threads that connect."""
PER_DEVICE = 3
"""The socket, the lock of its state, and that state while it is written."""


def make_room(devices: int, apps: int) -> None:
    """Raise the soft limit as far as it goes; raises StartError when a fleet of this size would not fit."""
    needed = OWN_FILES + PER_DEVICE * devices + apps
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise StartError(
            f"a fleet of {devices} devices and {apps} apps opens up to {needed} files and sockets, and this process "
            f"may open {hard}: start fewer, or raise the limit (ulimit -Hn, LimitNOFILE= in systemd)"
        )
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY else needed, hard))
