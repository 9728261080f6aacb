"""A part of what a model is measured on, for who has no hours: fewer clips and conditions, of the same voices."""

from collections import Counter
from collections.abc import Iterable

from edge_node.training.hearing import TEN_DB
from edge_node.training.measure import CLEAN, ROOM
from edge_node.training.plan import Clip

CONDITIONS = (CLEAN, ROOM, *TEN_DB)
"""Those that comparisons need, and with them all clips may be measured, too."""
_WORDS, _NEARS = 60, 8
"""Of each engine, and of each group of near-misses."""


def some(clips: Iterable[Clip]) -> list[Clip]:
    """Of each engine and group the first clips by name, which are as good as drawn by lot; all of kind `korean`."""
    counts: Counter[tuple[str, str]] = Counter()
    found = []
    for clip in sorted(clips, key=lambda clip: clip.name):
        if clip.kind == "korean":
            found.append(clip)
            continue
        counts[clip.engine, clip.group] += 1
        if counts[clip.engine, clip.group] <= (_WORDS if clip.kind == "word" else _NEARS):
            found.append(clip)
    return found
