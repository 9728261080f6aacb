"""What names of users and devices may be, and notes of operators."""

import re
import unicodedata

DEVICE_ID_PATTERN = r"^[A-Za-z0-9_-]{1,64}$"
UID_MAX_CHARACTERS = 128
NOTE_MAX_CHARACTERS = 200
TAG_MAX_CHARACTERS = 32


def check_uid(uid: str) -> str:
    """Return a uid that is 1 to 128 printable characters without `/`; raises ValueError otherwise."""
    if not uid.isprintable() or "/" in uid or not 1 <= len(uid) <= UID_MAX_CHARACTERS:
        raise ValueError(f"must be 1 to {UID_MAX_CHARACTERS} printable characters without '/'")
    return uid


def is_device_id(text: str) -> bool:
    """Whether a device may have this id."""
    return re.fullmatch(DEVICE_ID_PATTERN.strip("^$"), text) is not None


def check_note(note: str) -> str:
    """Return a person's note without white space around it; raises ValueError for one that is not one short line."""
    note = note.strip()
    if len(note) > NOTE_MAX_CHARACTERS or not note.isprintable():
        raise ValueError(f"must be one line of at most {NOTE_MAX_CHARACTERS} printable characters")
    return note


def check_tag(tag: str) -> str:
    """Return a tag of devices in one form (NFC); raises ValueError for one that has other characters or is too long."""
    tag = unicodedata.normalize("NFC", tag)
    if not re.fullmatch(rf"\w[\w.-]{{0,{TAG_MAX_CHARACTERS - 1}}}", tag):
        raise ValueError(
            f"{tag!r} must be 1 to {TAG_MAX_CHARACTERS} letters, digits, _, - and dots, the first a letter or a digit"
        )
    return tag
