"""What `sarvis doctor` finds: the same shape for every room that has something to check."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

State: TypeAlias = Literal["fine", "warning", "failed"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: was looked at.
        state: `warning`: it works, but not as it should; `failed`: it cannot work like that.
        found: what is there.
        advice: what to do; empty if all is fine.
    """

    what: str
    state: State
    found: str
    advice: str = ""
