"""What names of users and devices may be."""

import re

DEVICE_ID_PATTERN = r"^[A-Za-z0-9_-]{1,64}$"
UID_MAX_CHARACTERS = 128


def check_uid(uid: str) -> str:
    """Return a uid that is 1 to 128 printable characters without `/`; raises ValueError otherwise."""
    if not uid.isprintable() or "/" in uid or not 1 <= len(uid) <= UID_MAX_CHARACTERS:
        raise ValueError(f"must be 1 to {UID_MAX_CHARACTERS} printable characters without '/'")
    return uid


def is_device_id(text: str) -> bool:
    """Whether a device may have this id."""
    return re.fullmatch(DEVICE_ID_PATTERN.strip("^$"), text) is not None
