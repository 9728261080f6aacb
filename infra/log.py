"""The log: an event word and fields, on standard error; no tokens, no audio.

structlog, which writes it, is loaded at the first line: most commands of an operator write none.
"""

import contextlib
import logging
import sys
from collections.abc import Callable
from typing import Any, TextIO, cast

from infra.redaction import redact
from infra.settings.log import LogSettings


class Unbreakable:
    """A text stream that swallows what it cannot write: a log whose reader is gone must stop nothing.

    Every log line passes here, tracebacks and those of libraries too, so here known secrets are taken out of them.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write without known secrets, or not."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(redact(text))
        return len(text)

    def flush(self) -> None:
        """Flush, or not."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


class Logger:
    """A logger of structlog, made at the first line."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._logger: Any = None

    def __getattr__(self, method: str) -> Callable[..., Any]:
        """`debug`, `info`, `warning`, `error` or `exception`, as structlog has them."""
        if self._logger is None:
            self._logger = _structlog().get_logger(component=self._name)
        found: Callable[..., Any] = getattr(self._logger, method)
        return found


def get_logger(name: str) -> Logger:
    """A logger; call it with an event word and fields."""
    return Logger(name)


class _Wanted:
    settings: LogSettings | None = None
    """Asked for, and not carried out yet."""


def configure_logging(settings: LogSettings, *, serves: bool = False) -> None:
    """Set up structlog and the standard library's loggers; call once at start of a process.

    `serves`: load structlog now, for a process that must be able to log when it can open no file any longer.
    """
    _Wanted.settings = settings
    if serves or "structlog" in sys.modules:
        _structlog()
    else:
        logging.basicConfig(level=_level_of_libraries(settings), handlers=[_FirstLine()], force=True)


class _FirstLine(logging.Handler):
    """Receives the first line of a library; the handler that is set up then writes it."""

    def emit(self, record: logging.LogRecord) -> None:
        _structlog()
        logging.getLogger().handle(record)


def _structlog() -> Any:
    import structlog  # noqa: PLC0415

    settings, _Wanted.settings = _Wanted.settings, None
    if settings is not None:
        _set_up(settings)
    return structlog


def _level_of_libraries(settings: LogSettings) -> int:
    return max(logging.getLevelNamesMapping()[settings.level.upper()], logging.WARNING)


def _set_up(settings: LogSettings) -> None:
    import structlog  # noqa: PLC0415

    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if settings.format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, renderer]
        if settings.format == "json"
        else [*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, settings.level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", Unbreakable(sys.stderr))),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(Unbreakable(sys.stderr))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.processors.format_exc_info] if settings.format == "json" else shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(level=_level_of_libraries(settings), handlers=[handler], force=True)
