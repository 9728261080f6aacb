"""Files that are never half there: written beside, forced to disk, renamed. And text as editors save it."""

import codecs
import os
from pathlib import Path
from uuid import uuid4

SECRET = 0o600
PUBLIC = 0o644


def write(path: Path, text: str | bytes, mode: int = SECRET, *, sync: bool = True) -> None:
    """Replace a file as a whole; written by root it belongs to the owner of its folder. Raises OSError.

    Without `sync` it is whoever calls that forces it to disk.
    """
    beside = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, SECRET)
        with os.fdopen(descriptor, "wb") as file:
            give_to_owner_of(path.parent, descriptor)
            os.fchmod(descriptor, mode)
            file.write(text.encode() if isinstance(text, str) else text)
            file.flush()
            if sync:
                os.fsync(descriptor)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    if sync:
        _sync(path.parent)


_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16: it begins with the same two bytes
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def encoding_of(raw: bytes) -> str:
    """What the byte order mark at the beginning says, a name for `decode`; UTF-8 when there is none."""
    return next((encoding for mark, encoding in _MARKS if raw.startswith(mark)), "utf-8")


def decoded(raw: bytes) -> str:
    """Text in UTF-8, or in what its byte order mark says, without that mark; raises UnicodeError."""
    return raw.decode(encoding_of(raw))


def give_to_owner_of(folder: Path, descriptor: int) -> None:
    """When root writes into the folder of another user, that user must be able to read it."""
    if os.geteuid() == 0:
        owner = folder.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
