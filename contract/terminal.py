"""The streams of a process: they take every letter, whatever the locale, and tracebacks carry no known secret."""

import codecs
import io
import sys
import threading
import traceback
from types import TracebackType

from contract.redaction import redact

ESCAPE = "sarvis.escape"
"""The name of an error handler: what an encoding lacks is written as JSON writes it, so that JSON stays JSON."""


def prepare() -> None:
    """Call it first in every command."""
    codecs.register_error(ESCAPE, _escaped)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=ESCAPE)
    threading.excepthook = _thread_failed
    sys.unraisablehook = _failed_unheard


def tell_failure(error: BaseException) -> None:
    """The traceback of a fault of ours, on standard error."""
    _tell("", type(error), error, error.__traceback__)


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
    _tell(f"{told.err_msg or 'ignored'}: {told.object!r}: ", told.exc_type, told.exc_value, told.exc_traceback)


def _tell(where: str, kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    if sys.stderr is not None:
        sys.stderr.write(redact(where + "".join(traceback.format_exception(kind, error, trace))))
