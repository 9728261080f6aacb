"""Something that lives beside an attack, round after round, and notes what disturbed it."""

import threading
from abc import ABC, abstractmethod
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from tests.support.waiting import wait_for
from tools.fuzz.record import Result

SETTLES_WITHIN_S = 120.0


class Rounds(ABC):
    """Lives in a thread inside a `with` block.

    `settle` makes sure that a whole round began and ended after what was done before.
    """

    name: str
    """What it is, for messages."""
    pause_s: float

    def __init__(self) -> None:
        self.failures: list[str] = []
        self.begun = 0
        self._ended = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self.at_end = ExitStack()
        """What is closed after the last round, last first."""

    @abstractmethod
    def live(self) -> bool:
        """One round; False, with a line in `failures`, if there can be no other."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()
        self.at_end.close()

    def settle(self, result: Result, given: object = "") -> bool:
        """Wait for a round that began after now; False when it was disturbed for good."""
        wanted = self.begun + 1
        wait_for(
            f"a round of the {self.name}",
            lambda: self._ended >= wanted or not self._thread.is_alive(),
            within_s=SETTLES_WITHIN_S,
        )
        while self.failures:
            result.found("disturbed", self.failures.pop(0), given)
        return self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping.wait(self.pause_s):
            self.begun += 1
            if not self.live():
                return
            self._ended = self.begun
