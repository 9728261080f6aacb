"""The findings of `sarvis doctor`, in one shape for every program."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

State: TypeAlias = Literal["fine", "warning", "failed"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        what: the subject of the check.
        state: `warning`: it works, but not as it should; `failed`: it cannot work.
        found: the facts.
        advice: what to do; empty if nothing is wrong.
    """

    what: str
    state: State
    found: str
    advice: str = ""
