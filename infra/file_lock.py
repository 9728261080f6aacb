"""Locks a file for one process; the kernel frees the lock when the file is closed or the process ends."""

import fcntl
import os
import time
from pathlib import Path

_AGAIN_S = 0.05


def take(descriptor: int, *, patience_s: float | None = 0.0) -> bool:
    """Lock an open file; False if another process still has the lock after `patience_s`. None waits without limit.

    Raises OSError where the file system has no locks, as some network file systems.
    """
    if patience_s is None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return True
    ends = time.monotonic() + patience_s
    while not _taken(descriptor, fcntl.LOCK_EX):
        if time.monotonic() >= ends:
            return False
        time.sleep(_AGAIN_S)
    return True


def is_taken(path: Path) -> bool:
    """Whether a process holds the lock of this file now; False if the file is missing or may not be opened.

    It takes the lock for a moment itself: a `take` without patience may fail in that moment.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not _taken(descriptor, fcntl.LOCK_SH)
    except OSError:
        return True
    finally:
        os.close(descriptor)


def _taken(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
