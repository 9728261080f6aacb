"""Programs and libraries that tests need: a test without them skips by their names, and finds no others on its PATH."""

import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import pytest

from tests.support import debian
from tests.support.debian import bare_path, find, is_here, packages

_WORDS = "needs "
_REASON = re.compile(rf"(?:Skipped: )?{_WORDS}(?P<names>[^:]+)(?:: .*)?", re.DOTALL)


def needs(*names: str) -> pytest.MarkDecorator:
    """The mark of a test that skips unless all these are here; see `need`."""
    return pytest.mark.needs(*names)


def need(*names: str) -> None:
    """Skip by name unless all these are here: programs, libraries (by Debian package), or `root`.

    Until the test ends, these programs are on PATH, where no other of debian.PROGRAMS is.
    """
    missing = [name for name in names if not is_here(name, PATH.given)]
    if missing:
        absent(*missing)
    for name in names:
        PATH.add(name)


def program(name: str) -> str:
    """The path of a program; skips by name if it is absent."""
    need(name)
    found = find(name, PATH.given)
    assert found is not None
    return found


def absent(*names: str, why: str = "") -> NoReturn:
    """Skip, for want of these; `why` for what no package of Debian brings."""
    pytest.skip(f"{_WORDS}{', '.join(names)}{': ' if why else ''}{why}")


def missing_in(reason: str) -> list[str]:
    """The names in the reason of a skipped test."""
    found = _REASON.fullmatch(reason)
    return found["names"].split(", ") if found else []


def summary(reasons: Iterable[str]) -> str:
    """One line on tests that skipped: how many, for want of what, and the command that installs it."""
    told = [missing_in(reason) for reason in reasons]
    times = Counter(name for names in told for name in names)
    wanted = ", ".join(f"{name} ({count})" for name, count in sorted(times.items()))
    others = sum(not names for names in told)
    parts = [f"{len(told)} test{'s'[: len(told) > 1]} skipped", *([f"needed: {wanted}"] if wanted else [])]
    if others:
        parts.append(f"{others} of them for other reasons, see above")
    command = packages(times)
    if command:
        parts.append(f"as root: apt-get install {' '.join(command)}")
    return "; ".join(parts)


def unnamed(error: BaseException) -> str:
    """What to do about a program that a test started without naming it; empty if that is not the error."""
    name = Path(str(error.filename)).name if isinstance(error, FileNotFoundError) else ""
    if not debian.is_hidden(name) or name in PATH.named:
        return ""
    return f"a bare machine has no {name}: write @needs({name!r}) above the test, see tests/support/programs.py"


class _Path:
    """PATH, as it was given to these tests and as each of them gets it.

    Attributes:
        named: what the test needs, as far as it has said so.
    """

    def __init__(self, given: str) -> None:
        self.given = given
        self._folder: Path | None = None
        self._bare = given
        self.named: set[str] = set()

    def add(self, name: str) -> None:
        """From now on this program is found."""
        self.named.add(name)
        found = find(name, self.given)
        if found is None or self._folder is None or shutil.which(name) is not None:
            return
        (self._folder / "named" / name).symlink_to(found)

    def reset(self) -> None:
        """A bare machine's, with what a test adds."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="bare-"))
            self._bare = bare_path(self.given, self._folder)
        self.named.clear()
        named = self._folder / "named"
        shutil.rmtree(named, ignore_errors=True)
        named.mkdir()
        os.environ["PATH"] = f"{named}{os.pathsep}{self._bare}"

    def restore(self) -> None:
        """As it was given; nothing is left behind."""
        os.environ["PATH"] = self.given
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


PATH = _Path(os.environ.get("PATH", os.defpath))
