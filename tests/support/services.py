"""What a test starts and what must be gone after it: for `with` blocks."""

from abc import ABC, abstractmethod
from contextlib import ExitStack
from types import TracebackType
from typing import Self


class Service(ABC):
    """One process, which may also be started and stopped by hand."""

    @abstractmethod
    def start(self) -> None:
        """Returns when it serves; leaves nothing behind when it fails."""

    @abstractmethod
    def stop(self) -> None:
        """Raises AssertionError when it ended badly."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class Household(ABC):
    """Several services together; when one does not start, those before it are stopped."""

    @abstractmethod
    def _open(self, running: ExitStack) -> None:
        """Start everything, each in this stack."""

    def __enter__(self) -> Self:
        with ExitStack() as running:
            self._open(running)
            self._running = running.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.__exit__(kind, error, trace)
