"""Handles the signals that ask a process to end, from its first moment to its last.

Before a process serves, the first signal raises `Interrupted` at the current instruction, so that `finally` blocks run.
Later signals do not interrupt these. `infra.stopping` takes over for processes that serve.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
AGAIN_AFTER_S = 0.02
ENOUGH = 3
"""After this many Ctrl-C the process ends at once, without tidying up."""

Listener = Callable[[signal.Signals], None]


class Interrupted(KeyboardInterrupt):
    """The process is asked to end. A KeyboardInterrupt, because event loops and commands let that one pass."""


class _Process:
    """The signals that this process received so far."""

    prepared = False
    leaving = False
    by: signal.Signals | None = None
    typed = 0
    listener: Listener | None = None


_it = _Process()


def prepare() -> None:
    """Call it first in every command. Signals that were ignored at start (nohup) stay ignored."""
    if threading.current_thread() is not threading.main_thread():
        return
    _it.prepared, _it.leaving, _it.by, _it.typed = True, False, None, 0
    for signum in ENDING:
        if signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, _came)


def leave() -> None:
    """From now on the process only ends: signals no longer raise."""
    _it.leaving = True


def interrupted_by() -> signal.Signals | None:
    """The signal that raised `Interrupted`, if one did."""
    return _it.by


def come_again() -> None:
    """`Interrupted` was raised where it is swallowed, as in a finaliser: raise it once more, a moment later."""
    by, _it.by = _it.by, None
    if by is not None:
        threading.Timer(AGAIN_AFTER_S, os.kill, (os.getpid(), by)).start()


@contextmanager
def told_to(listener: Listener) -> Iterator[None]:
    """Inside the block signals do not raise; `listener` receives them, in the main thread between two instructions."""
    before = {signum: signal.getsignal(signum) for signum in ENDING}
    # A shell script starts background programs (&) with SIGINT ignored; it must still end a server.
    ours = [signum for signum in ENDING if signum != signal.SIGHUP or before[signum] is not signal.SIG_IGN]
    outer, _it.listener = _it.listener, listener
    for signum in ours:
        signal.signal(signum, _came)
    try:
        yield
    finally:
        _it.listener = outer
        if not _it.prepared:
            for signum in ours:
                signal.signal(signum, before[signum])


@contextmanager
def held() -> Iterator[None]:
    """Runs the block as a whole: a signal within it raises afterwards. In any thread.

    Python runs handlers, and so raises, in the main thread only: other threads are never interrupted.
    """
    came: list[signal.Signals] = []
    if _it.listener is not None or not _it.prepared or threading.current_thread() is not threading.main_thread():
        yield
        return
    with told_to(came.append):
        yield
    if came and _it.by is None:
        _it.by = came[0]
        raise Interrupted


def has_terminal() -> bool:
    """Whether this process has a controlling terminal that still exists."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


def _came(number: int, _frame: FrameType | None) -> None:
    signum = signal.Signals(number)
    _it.typed += signum == signal.SIGINT
    if _it.typed >= ENOUGH:
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)
    elif _it.listener is not None:
        _it.listener(signum)
    elif not _it.leaving and _it.by is None:
        _it.by = signum
        raise Interrupted
