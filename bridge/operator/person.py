"""The person who types a command, for the audit."""

import getpass

from bridge.storage.records import By


def me() -> By:
    """The user of this machine who runs the command."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # no such user in /etc/passwd
        name = ""
    return By(f"user:{name}", via="cli")
