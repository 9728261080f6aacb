"""The temporary folder of `sarvis up`, and the removal of those that a killed one has left."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra import file_lock

PREFIX = "sarvis-up-"
LOCK = "lock"


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that is locked inside the block and removed at its end; first removes those without an owner."""
    remove_left()
    with tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        # Locked before it has its name: another `sarvis up` never sees it unlocked.
        descriptor = os.open(folder / f"{LOCK}.new", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            file_lock.take(descriptor)
            (folder / f"{LOCK}.new").rename(folder / LOCK)
            yield folder
        finally:
            os.close(descriptor)


def remove_left() -> None:
    """Remove this user's folders whose `sarvis up` was killed: they have a lock that no process holds."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        if _is_ours(folder) and _is_ours(folder / LOCK) and not file_lock.is_taken(folder / LOCK):
            shutil.rmtree(folder, ignore_errors=True)


def _is_ours(path: Path) -> bool:
    """Whether it is there, is no link, and belongs to this user."""
    try:
        return not path.is_symlink() and path.lstat().st_uid == os.geteuid()
    except OSError:
        return False
