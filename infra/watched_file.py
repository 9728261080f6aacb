"""Reads files again when they have changed; a failed read changes nothing and is reported once.

It has no thread: its owner calls `look` as often as it likes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from contract.errors import SarvisError

Identity = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Look:
    """The result of one look.

    Attributes:
        is_new: the files had changed and were read.
        problem: why they could not be read; None if that was reported before.
    """

    is_new: bool = False
    problem: SarvisError | OSError | None = None


NOTHING = Look()


def identity(path: Path) -> Identity | None:
    """A value that changes whenever a file is replaced or written; None if the file is missing. One system call."""
    try:
        found = path.expanduser().stat()
    except (OSError, ValueError, RuntimeError):  # the last try: there is no home folder
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


class WatchedFile:
    """Files that belong together, as a certificate and its key; one call of `read` reads all of them.

    Args:
        read: applies the new content as its last step; raises SarvisError or OSError and keeps the old one.
        now: monotonic seconds, for `is_due`.
        every_s: how long a look stays current for `is_due`.

    Attributes:
        is_there: whether all files existed at the last look, known before `read` is called.
    """

    def __init__(
        self, *paths: Path, read: Callable[[], object], now: Callable[[], float] | None = None, every_s: float = 0.0
    ) -> None:
        self.is_there = False
        self._paths = paths
        self._read = read
        self._now = now
        self._every_s = every_s
        self._due_at = float("-inf")
        self._used: list[Identity | None] = [None] * len(paths)
        self._tried = self._used
        self._problem: str | None = None

    def open(self) -> None:
        """Read the files for the first time; raises what `read` raises."""
        found = self._find()
        self._read()
        self._used = found

    def is_due(self) -> bool:
        """Whether the last look is at least `every_s` old; no system call."""
        return self._now is None or self._now() >= self._due_at

    def is_changed(self) -> bool:
        """Whether the files differ from those that were last read, or tried."""
        return [identity(path) for path in self._paths] != self._tried

    def look(self) -> Look:
        """Read the files if they have changed. A failed read is repeated at each look."""
        if self._now is not None:
            self._due_at = self._now() + self._every_s
        found = self._find()
        if found == self._used:
            self._problem = None
            return NOTHING
        try:
            self._read()
        except (SarvisError, OSError) as error:
            known, self._problem = self._problem, str(error)
            return NOTHING if known == self._problem else Look(problem=error)
        self._used, self._problem = found, None
        return Look(is_new=True)

    def _find(self) -> list[Identity | None]:
        # Noted before reading: a file that is replaced meanwhile counts as changed at the next look.
        self._tried = [identity(path) for path in self._paths]
        self.is_there = None not in self._tried
        return self._tried
