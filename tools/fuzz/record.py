"""What an attack may spend, and what it brings home."""

import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import HypothesisDeprecationWarning
from hypothesis.strategies import SearchStrategy

T = TypeVar("T")

Kind = Literal["crash", "server_error", "disturbed", "broken"]
SHOWN_CHARACTERS = 600
DRAWN_AT_ONCE = 500


def _nobody(_count: int) -> None:
    """Hear of progress and do nothing."""


@dataclass(frozen=True)
class Finding:
    """Something that may not be; `given` is the input that did it, or the last one before it was seen."""

    kind: Kind
    what: str
    given: str


@dataclass
class Result:
    """Of one attack: how much was tried, and what broke. The same fault is listed once, and counted each time."""

    name: str
    inputs: int = 0
    crashes: int = 0
    server_errors: int = 0
    disturbed: int = 0
    broken: int = 0
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def found(self, kind: Kind, what: str, given: object = "") -> None:
        """Count a fault."""
        match kind:
            case "crash":
                self.crashes += 1
            case "server_error":
                self.server_errors += 1
            case "disturbed":
                self.disturbed += 1
            case "broken":
                self.broken += 1
        if (kind, what) not in {(known.kind, known.what) for known in self.findings}:
            self.findings.append(Finding(kind, what, given if isinstance(given, str) else repr(given)))


@dataclass(frozen=True)
class Budget:
    """How many inputs, or for how long (whichever ends first).

    The same seed draws the same inputs while the same modules of the project are loaded: hypothesis draws their
    constants, too.
    """

    examples: int | None = None
    seconds: float | None = None
    seed: int = 1
    tell: Callable[[int], None] = _nobody

    def batches(self, strategy: SearchStrategy[T], size: int) -> Iterator[list[T]]:
        """Inputs until the budget is spent; hypothesis makes them, and the attack does what it likes with them."""
        assert self.examples is not None or self.seconds is not None
        ends = None if self.seconds is None else time.monotonic() + self.seconds
        left = self.examples
        number = 0
        while left is None or left > 0:
            drawn = draw(strategy, DRAWN_AT_ONCE if left is None else min(DRAWN_AT_ONCE, left), self.seed + number)
            number += 1
            for start in range(0, len(drawn), size):
                if ends is not None and time.monotonic() >= ends:
                    return
                batch = drawn[start : start + size]
                yield batch
                self.tell(len(batch))
            if left is not None:
                left -= len(drawn)


def draw(strategy: SearchStrategy[T], count: int, number: int) -> list[T]:
    """That many values (fewer where there are no more), the same for the same number (see Budget)."""
    drawn: list[T] = []

    @seed(number)
    @settings(
        derandomize=True,
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def take(value: T) -> None:
        drawn.append(value)

    with warnings.catch_warnings():
        # hypothesis takes the random numbers of a neighbour's thread for those of a strategy.
        warnings.simplefilter("ignore", HypothesisDeprecationWarning)
        take()
    assert drawn, "the strategy has no value"
    return drawn


def cut(text: str) -> str:
    """The text, shortened in the middle."""
    if len(text) <= SHOWN_CHARACTERS:
        return text
    half = SHOWN_CHARACTERS // 2
    return f"{text[:half]} ... {len(text)} characters ... {text[-half:]}"
