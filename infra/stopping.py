"""Tells a server process to stop, or to reload its files."""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self

from infra import signals
from infra.telemetry import get_logger

LOOK_EVERY_S = 0.1
GONE_WITHIN_S = 5.0
"""A closing terminal first sends SIGHUP to its programs and disappears a moment later."""

log = get_logger("signals")

Reload = Callable[[], dict[str, str]]
"""Reloads files at once; returns the fields of the log line."""


class Stop:
    """Inside `with`, on a running event loop, SIGINT, SIGTERM and SIGHUP are noted here and end nothing by themselves.

    SIGHUP also asks to end, unless `reload` is set: then it is called, and the end is asked for only if the process
    had a terminal that disappeared. The third Ctrl-C ends the process at once.

    Attributes:
        asked: set when the process is to end, also during its start.
        by: the first signal.
        in_haste: set at the second request: waiting for clients is cut short.
        reload: may be set later.
    """

    def __init__(self, *, reload: Reload | None = None, on_asked: Callable[[], object] = lambda: None) -> None:
        self.asked = asyncio.Event()
        self.in_haste = asyncio.Event()
        self.by: signal.Signals | None = None
        self.reload = reload
        self._on_asked = on_asked
        self._context = contextlib.ExitStack()
        self._watching: asyncio.Task[None] | None = None
        self._had_terminal = False

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._had_terminal = signals.has_terminal()
        self._context.enter_context(signals.told_to(self._came))
        if signals.interrupted_by() is not None:
            self.asked.set()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._watching is not None:
            self._watching.cancel()
        if self.asked.is_set():
            signals.leave()
        self._context.close()

    async def unless_in_haste(self, wait: Coroutine[Any, Any, None]) -> None:
        """Wait for something optional, which is cancelled at the second request to end."""
        waiting, haste = asyncio.ensure_future(wait), asyncio.ensure_future(self.in_haste.wait())
        await asyncio.wait([waiting, haste], return_when=asyncio.FIRST_COMPLETED)
        haste.cancel()
        if not waiting.done():
            waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting

    def _came(self, signum: signal.Signals) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._take, signum)

    def _take(self, signum: signal.Signals) -> None:
        self.by = self.by or signum
        if signum != signal.SIGHUP:
            self._ask()
        elif self.reload is not None and not self._terminal_is_gone():
            log.info("files_read_again", signal=signum.name, **self.reload())
            if self._had_terminal and self._watching is None:
                self._watching = self._loop.create_task(self._watch(), name="terminal")
        else:
            log.info("ends", signal=signum.name, terminal="gone" if self._terminal_is_gone() else None)
            self._ask()

    def _ask(self) -> None:
        if self.asked.is_set():
            self.in_haste.set()
        else:
            self.asked.set()
            self._on_asked()

    def _terminal_is_gone(self) -> bool:
        return self._had_terminal and not signals.has_terminal()

    async def _watch(self) -> None:
        """After a SIGHUP: find out whether it was `kill -HUP` or a closing terminal."""
        ends = self._loop.time() + GONE_WITHIN_S
        while self._loop.time() < ends:
            if self._terminal_is_gone():
                log.info("ends", signal="SIGHUP", terminal="gone")
                self._ask()
                return
            await asyncio.sleep(LOOK_EVERY_S)
        self._watching = None
