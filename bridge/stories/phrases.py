"""What a language must have for `sarvis why` and `sarvis trace`: the type of its sentences. No I/O."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

from bridge.stories.records import Story
from bridge.stories.why import Cause

Language = Literal["en", "ko"]
LANGUAGES: tuple[Language, ...] = get_args(Language)

Step = Callable[[Sequence[Any]], str]
"""Tells a step; gets its details, see `bridge.stories.records.STEPS`."""


class Words(NamedTuple):
    """How a cause is told, and what to do about it; both get the cause."""

    said: Callable[[Cause], str]
    to_do: Callable[[Cause], str]


@dataclass(frozen=True, slots=True)
class Book:
    """All sentences of one language.

    Attributes:
        reasons: why a session ended.
        ends: what became of a wake, by its state.
        codes: why a socket was closed.
        no_push: why no push was sent.
        steps: by the second field of a step.
        causes: by the code of a cause.
        received: tells of the receipt of a wake.
        rang_whom: who rang whom.
        when: what stands behind a cause, for a beginning and an end, which is None for what lasts.
        cause: before a cause that kept the phone silent.
        also: before one that did not.
        to_do: before what to do.
        rang: the phone rang.
    """

    reasons: Mapping[str, str]
    ends: Mapping[str, str]
    codes: Mapping[int, str]
    no_push: Mapping[str, str]
    steps: Mapping[str, Step]
    causes: Mapping[str, Words]
    received: Callable[[Story], str]
    rang_whom: Callable[[Story], str]
    when: Callable[[str, str | None], str]
    cause: str
    also: str
    to_do: str
    rang: str


def number(ms: float) -> str:
    """Milliseconds."""
    return f"{ms:,.0f} ms" if ms >= 100 else f"{ms:g} ms"  # noqa: PLR2004
