"""Single keys of a terminal; whole lines where the input is none."""

import asyncio
import contextlib
import os
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager

CHUNK = 64


@contextmanager
def keys(on_key: Callable[[str], None]) -> Iterator[None]:
    """Inside, `on_key` is called with each character of standard input; signals of the keyboard stay signals.

    The terminal is as before afterwards. Without standard input nothing comes.
    """
    try:
        descriptor = sys.stdin.fileno()
    except (AttributeError, OSError, ValueError):
        yield
        return
    before = termios.tcgetattr(descriptor) if os.isatty(descriptor) else None
    loop = asyncio.get_running_loop()

    def readable() -> None:
        with contextlib.suppress(BlockingIOError):
            try:
                typed = os.read(descriptor, CHUNK)
            except OSError:
                typed = b""  # the terminal is gone
            if not typed:
                loop.remove_reader(descriptor)
            for key in typed.decode(errors="ignore"):
                on_key(key)

    if before is not None:
        tty.setcbreak(descriptor, termios.TCSANOW)  # keeps what has been typed already
    with contextlib.suppress(PermissionError):  # a file cannot be waited for
        loop.add_reader(descriptor, readable)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
        if before is not None:
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
