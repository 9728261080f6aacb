"""A context that can be closed from any thread, any number of times."""

import threading
from types import TracebackType
from typing import Self


class Closable:
    """A context that closes itself; `_closed` is set from then on."""

    def __init__(self) -> None:
        self._closed = threading.Event()

    def close(self) -> None:
        """End the iteration promptly; from any thread, any number of times."""
        self._closed.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
