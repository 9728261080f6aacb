"""Shows or stores a secret before it becomes valid, so that no secret is valid that the user could not read."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from contract.errors import SettingsError
from infra import signals, terminal
from infra.files import Staged


@contextlib.contextmanager
def handed_over(secret: str, out: Path | None = None, *, words: str = "") -> Iterator[None]:
    """Print a secret after an introduction, or write it into a file; the block then makes it valid.

    Raises UnreadError or SettingsError before the block if it cannot be written. If the block fails, the file is
    restored, and a message says that the printed secret is not valid.
    """
    if out is None:
        with printed(words + secret):
            yield
        return
    staged = Staged()
    try:
        try:
            staged.write(out, secret + "\n")
        except OSError as error:
            raise SettingsError(f"--out {out} cannot be written: {error.strerror}") from None
        with signals.held():
            yield
            staged.commit()
    finally:
        staged.undo()


@contextlib.contextmanager
def printed(text: str) -> Iterator[None]:
    """The same for whole lines that contain secrets."""
    terminal.deliver(text)
    try:
        with signals.held():
            yield
    except BaseException:
        print("the printed secret is not valid, because it could not be stored; try again", file=sys.stderr)  # noqa: T201
        raise
