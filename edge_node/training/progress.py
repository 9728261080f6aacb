"""A progress bar for work of minutes, on a terminal."""

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import track as rich_track

T = TypeVar("T")


def track(items: Iterable[T], what: str, total: int) -> Iterator[T]:
    """The items, while a bar on standard error shows how many are done; a plain line per tenth in a log."""
    if sys.stderr.isatty():
        yield from rich_track(items, what, total, console=Console(stderr=True))
        return
    step = max(total // 10, 1)
    for number, item in enumerate(items, start=1):
        yield item
        if number % step == 0 or number == total:
            print(f"{what}: {number} of {total}", file=sys.stderr, flush=True)  # noqa: T201 the bar of a log
