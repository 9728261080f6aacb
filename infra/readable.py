"""Reads files that people name, with errors that say what is wrong and what to do.

An existing file that cannot be read is never reported as missing.
"""

import errno
import os
import pwd
import select
import stat
import time
from pathlib import Path
from typing import IO

from contract.errors import SettingsError

PIPE_WITHIN_S = 5.0
_CHUNK_BYTES = 65_536
_LOOK_MS = 20
_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def read_bytes(path: Path, most: int = -1, *, pipe: bool = False) -> bytes:
    """The content of a regular file, at most `most` bytes; never waits for a pipe or a device.

    Raises OSError whose `strerror` is the whole explanation. `pipe` also allows a pipe of the shell, `<(command)`.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except (OSError, ValueError) as error:
        raise explained(path, error) from None
    try:
        mode = os.fstat(descriptor).st_mode
        if pipe and stat.S_ISFIFO(mode):
            return _from_pipe(path, descriptor, most)
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, _other_kind(mode), str(path))
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return _read(path, file, most)
    finally:
        os.close(descriptor)


def _read(path: Path, file: IO[bytes], most: int) -> bytes:
    try:
        return file.read(most)
    except OSError as error:
        raise explained(path, error) from None


def is_absent(path: Path) -> bool:
    """Whether the path does not exist; raises OSError as `read_bytes` if that is uncertain or a broken link."""
    try:
        path.stat()
    except FileNotFoundError as error:
        if path.is_symlink():
            raise explained(path, error) from None
        return True
    except NotADirectoryError:
        return True
    except (OSError, ValueError) as error:
        raise explained(path, error) from None
    return False


def is_there(path: Path) -> bool:
    """The opposite of `is_absent`; raises SettingsError."""
    try:
        return not is_absent(path)
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None


def explained(path: Path, error: OSError | ValueError) -> OSError:
    """The same error with a text for people."""
    if not isinstance(error, OSError):
        return OSError(errno.EINVAL, "a file cannot have such a name; check it", str(path))
    number = error.errno or errno.EIO
    words = error.strerror or str(error)
    if isinstance(error, FileNotFoundError):
        words = _why_not_found(path, words)
    elif isinstance(error, PermissionError):
        words = f"{words}: {_who_may(path)}"
    elif number == errno.ENOTDIR:
        words = f"{words}: a part of this path is a file; check it"
    elif number == errno.ENXIO:
        words = "it is a socket, not a file; name a file"
    elif number == errno.ELOOP:
        words = f"{words}: its links form a circle; correct them"
    return OSError(number, words, str(path))


def _other_kind(mode: int) -> str:
    kind = next((name for is_so, name in _KINDS if is_so(mode)), "something else")
    return f"it is {kind}, not a file; name a file"


def _why_not_found(path: Path, words: str) -> str:
    if path.is_symlink():
        return f"it is a link to {path.readlink()}, which does not exist; correct the link, or name another file"
    missing = next((folder for folder in reversed(path.parents) if not folder.exists()), None)
    return f"{words}: make it, or name another" if missing is None else f"{words}: there is no folder {missing}"


def _who_may(path: Path) -> str:
    me = _name(os.geteuid())
    for folder in reversed(path.absolute().parents):
        try:
            entered = os.access(folder, os.X_OK, effective_ids=True)
            owner = folder.stat().st_uid
        except OSError:
            break
        if not entered:
            whose = f"{folder}, which belongs to {_name(owner)}"
            return f"the user {me} may not enter {whose}; run this as that user, or let {me} in"
    try:
        owner = path.stat().st_uid
    except OSError:
        return f"the user {me} may not look there; run this as its owner"
    return f"the user {me} may not read it, it belongs to {_name(owner)}; run this as that user, or let {me} read it"


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _from_pipe(path: Path, descriptor: int, most: int) -> bytes:
    """All bytes until the writer closes; raises OSError if none come, or too many."""
    content, ends = b"", time.monotonic() + PIPE_WITHIN_S
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    while most < 0 or len(content) < most:
        try:
            chunk = os.read(descriptor, _CHUNK_BYTES)
        except BlockingIOError:
            chunk = None
        if chunk:
            content += chunk
        elif chunk is not None and content:
            break
        elif time.monotonic() > ends:
            words = f"it is a named pipe, and no program wrote into it for {PIPE_WITHIN_S:g} s"
            raise OSError(errno.ETIMEDOUT, words, str(path))
        else:
            poller.poll(_LOOK_MS)  # without a writer the kernel reports nothing
    return content if most < 0 else content[:most]
