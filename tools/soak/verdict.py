"""What a soak has shown: the node's events beside the twin's, the fate of each wake, memory over the hours."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from edge_node.wakeword.gate import Trigger

MAY_GROW_MIB = 4.0
"""Of some hundred: what an allocator does by itself over minutes."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """All that was found wrong, in words; nothing if all was right.

    Attributes:
        wakes: events that the node told.
        early_mib: resident memory, median of the second quarter of the run.
        late_mib: of the last quarter.
    """

    wrong: list[str]
    wakes: int
    early_mib: float
    late_mib: float


def judge(
    wakes: Sequence[Mapping[str, Any]],
    expected: Sequence[Trigger],
    fates: Mapping[str, str],
    rung: Sequence[str],
    memory_mib: Sequence[float],
) -> Verdict:
    """Compare what a node told with what the twin says, and each wake with what became of it."""
    wrong = []
    told = [(wake["at_s"], wake["score"]) for wake in wakes]
    twins = [(round(trigger.at_s, 2), round(trigger.score, 4)) for trigger in expected]
    if told != twins:
        missing, extra = Counter(twins) - Counter(told), Counter(told) - Counter(twins)
        wrong.append(f"events differ from the twin's: missing {sorted(missing)[:5]}, too many {sorted(extra)[:5]}")
    ids = [str(wake["id"]) for wake in wakes]
    unanswered = {wake: fates.get(wake, "none") for wake in ids if fates.get(wake) != "acked"}
    if unanswered:
        wrong.append(f"wakes that no app answered: {dict(Counter(unanswered.values()))}")
    if Counter(rung) != Counter(ids):
        wrong.append(f"the app rang {len(rung)} times, {len(set(rung))} of them different, for {len(ids)} wakes")
    quarter = max(len(memory_mib) // 4, 1)
    early, late = median(memory_mib[quarter : 2 * quarter] or memory_mib), median(memory_mib[-quarter:])
    if late - early > MAY_GROW_MIB:
        wrong.append(f"memory grew from {early:.1f} to {late:.1f} MiB")
    return Verdict(wrong, len(wakes), early, late)
