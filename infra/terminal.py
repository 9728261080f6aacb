"""Standard streams that never raise: lost output is reported, and tracebacks have no secrets.

They accept every character, whatever the locale. A stream that was closed at start (`>&-`) cannot be written or read:
its descriptor stays taken, so that no file or socket gets it together with printed text.
"""

import codecs
import contextlib
import io
import os
import select
import sys
import threading
import traceback
from types import TracebackType
from typing import Any, TextIO

from contract.errors import SarvisError
from infra import signals

ESCAPE = "sarvis.escape"
"""The name of an error handler: a character that the encoding lacks is written as JSON escapes it, so JSON stays valid.
"""


class UnreadError(SarvisError):
    """Text that the user must read could not be written to standard output."""


class Lossy(io.RawIOBase):
    """A file descriptor that drops what cannot be written, without an error."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor

    def writable(self) -> bool:
        """Always true."""
        return True

    def fileno(self) -> int:
        """The descriptor of the stream."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return os.isatty(self._descriptor)

    def write(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override]
        """Write; drops what cannot be written."""
        with contextlib.suppress(OSError):
            return os.write(self._descriptor, data)
        return len(data)


class Output(Lossy):
    """Standard output of a command: the first failure is remembered, and later output is lost.

    A command does not stop halfway because its output fails: it reports the failure at its end. A command whose only
    result is its output sets `raises`.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor)
        self.problem: OSError | None = None
        self.raises = False

    def write(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override]
        """Write; raises OSError once if `raises`."""
        while self.problem is None:
            try:
                return os.write(self._descriptor, data)
            except BlockingIOError:
                select.select([], [self._descriptor], [])
            except OSError as error:
                self.problem = error
                if self.raises:
                    raise
        return len(data)


_output: Output | None = None


def prepare(*, serves: bool = False) -> None:
    """Call it first in every command; `serves`: its output need not be read, now or later."""
    global _output  # noqa: PLW0603 - a process has one standard output
    codecs.register_error(ESCAPE, _escaped)
    _keep_numbers_taken()
    _output = None if serves else Output(1)
    if sys.stdout is sys.__stdout__:
        sys.stdout = _stream(_output or Lossy(1), sys.stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _stream(Lossy(2), sys.stderr, at_once=True)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115 - it stays open
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ESCAPE)
    threading.excepthook = _thread_failed
    sys.unraisablehook = _failed_unheard


def output_is_all() -> None:
    """For a command whose only result is its output: it ends when that cannot be written."""
    if _output is not None:
        _output.raises = True


def is_output_all() -> bool:
    """Whether `output_is_all` was called."""
    return _output is not None and _output.raises


def output_problem() -> OSError | None:
    """Why standard output could not be written; None if it could. Flushes it."""
    with contextlib.suppress(OSError, ValueError):
        if sys.stdout is not None:
            sys.stdout.flush()
    return None if _output is None else _output.problem


def deliver(text: str) -> None:
    """Print text that the user must read, as a new secret; raises UnreadError if it was not written.

    A pipe or a file that accepts it counts as read.
    """
    why: str | None
    try:
        print(text, flush=True)  # noqa: T201
        problem = output_problem()
        why = problem.strerror if problem is not None else "it is closed" if sys.stdout is None else None
    except (OSError, ValueError) as error:
        why = str(error)
    if why is not None:
        raise UnreadError(
            f"standard output cannot be written: {why}; the new secret was not shown, so it is not valid: try again"
        )


def tell_failure(error: BaseException) -> None:
    """Print the traceback of an internal error on standard error."""
    _tell("", type(error), error, error.__traceback__)


def _keep_numbers_taken() -> None:
    for number, flags in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_RDONLY)):
        try:
            os.fstat(number)
        except OSError:
            # Opened in the wrong direction: reading and writing fail as on a closed stream.
            os.set_inheritable(os.open(os.devnull, flags), True)


def _stream(raw: io.RawIOBase, like: TextIO | None, *, at_once: bool = False) -> TextIO:
    by_line = at_once or raw.isatty()
    encoding, through = "utf-8", False
    if isinstance(like, io.TextIOWrapper):
        encoding, through = like.encoding, like.write_through
    # Unbuffered, as Python does with -u.
    buffer: Any = raw if through else io.BufferedWriter(raw)
    return io.TextIOWrapper(
        buffer,
        encoding=encoding,
        errors=ESCAPE,
        line_buffering=by_line,
        write_through=through,
    )


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2)), error.end


def _thread_failed(told: threading.ExceptHookArgs) -> None:
    if told.exc_type is not SystemExit:
        name = told.thread.name if told.thread else "that has ended"
        _tell(f"in the thread {name}: ", told.exc_type, told.exc_value, told.exc_traceback)


def _failed_unheard(told: "sys.UnraisableHookArgs") -> None:
    if isinstance(told.exc_value, KeyboardInterrupt):
        signals.come_again()
        return
    _tell(f"{told.err_msg or 'ignored'}: {told.object!r}: ", told.exc_type, told.exc_value, told.exc_traceback)


def _tell(where: str, kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    from infra.redaction import redact  # noqa: PLC0415 - a command that fails in nothing starts without it

    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(redact(where + "".join(traceback.format_exception(kind, error, trace))))
