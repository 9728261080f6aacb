"""Windows in which a head hears something, out of many scenes or hours: all that a verifier is ever asked about."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_node.training import measure
from edge_node.training.judge import Scores, scores_of
from edge_node.training.measure import Condition
from edge_node.training.plan import Clip
from edge_node.training.sources import Source
from edge_node.wakeword.grounds import ASKED_FROM, BEST_FRAMES, Grounds
from edge_node.wakeword.incremental import Floats, Numbers
from edge_node.wakeword.native import HEAD_EMBEDDINGS, Head
from edge_node.wakeword.verifier import Insight

_APART_FRAMES = 25
_NOT_REACHED = -99.0
_PIECE = 4096
Logits = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Candidates:
    """Of several scenes.

    Attributes:
        count: how many scenes.
        scene, frame: of each candidate, in order (n,).
        logits: the head's (n,).
        seen: what `Insight` gives, in half precision, or that along the axes of some grounds (n, anything).
    """

    count: int
    scene: npt.NDArray[np.int64]
    frame: npt.NDArray[np.int64]
    logits: Logits
    seen: Floats | npt.NDArray[np.float16]

    def best(self) -> npt.NDArray[np.int64]:
        """The candidates that score best in their scene, at most BEST_FRAMES each."""
        order = np.lexsort((-self.logits, self.scene))
        scenes = self.scene[order]
        rank = np.arange(len(order)) - np.searchsorted(scenes, scenes)
        return order[rank < BEST_FRAMES]

    def along(self, grounds: Grounds) -> "Candidates":
        """The same along the axes."""
        pieces = [self.seen[at : at + _PIECE] for at in range(0, max(len(self.seen), 1), _PIECE)]
        return replace(self, seen=np.concatenate([grounds.along(piece) for piece in pieces]).astype(np.float32))

    def reached(self, line: tuple[Numbers, float] | None = None) -> Logits:
        """For each scene the highest logit of a threshold at which it would fire (scenes,); -99 if at none."""
        fused = self.logits if line is None else self.logits + self.seen @ line[0] + line[1]
        found = np.full(self.count, _NOT_REACHED)
        runs = (self.scene[1:] == self.scene[:-1]) & (self.frame[1:] == self.frame[:-1] + 1)
        np.maximum.at(found, self.scene[1:][runs], np.minimum(fused[1:], fused[:-1])[runs])
        return found


def of_scenes(head: Head, insight: Insight, clips: list[Clip], condition: Condition, cache: Path) -> Candidates:
    """One scene for each clip."""
    heard = measure.heard(clips, condition, cache)
    return _gathered(insight, ((at, scores_of(one, head), one) for at, one in enumerate(heard)))


def of_recordings(head: Head, insight: Insight, sources: tuple[Source, ...], cache: Path) -> tuple[Candidates, float]:
    """One scene for each stretch of candidates that is 2 s away from others; and the hours."""
    parts, frames = [], 0
    for embedded in measure.measured_recordings(cache, sources).values():
        part = _gathered(insight, [(0, scores_of(embedded, head), embedded)])
        scenes = np.cumsum(np.diff(part.frame, prepend=part.frame[:1]) > _APART_FRAMES, dtype=np.int64)
        parts.append(replace(part, count=int(scenes[-1]) + 1 if len(scenes) else 0, scene=scenes))
        frames += len(embedded)
    return joined(parts), measure.hours(frames)


def joined(parts: Iterable[Candidates]) -> Candidates:
    """Scenes of several, numbered on."""
    known = list(parts)
    starts = np.cumsum([0, *(part.count for part in known)])
    rest = [np.concatenate([getattr(part, name) for part in known]) for name in ("frame", "logits", "seen")]
    scenes = np.concatenate([part.scene + start for part, start in zip(known, starts, strict=False)])
    return Candidates(int(starts[-1]), scenes, *rest)


def _gathered(insight: Insight, streams: Iterable[tuple[int, Scores, Floats]]) -> Candidates:
    scenes, frames, scores, seen, count = [], [], [], [], 0
    for scene, found, embedded in streams:
        count = scene + 1
        for frame in np.flatnonzero(np.nan_to_num(found) >= ASKED_FROM).tolist():
            scenes.append(scene)
            frames.append(frame)
            scores.append(float(found[frame]))
            seen.append(insight.of(embedded[frame - HEAD_EMBEDDINGS + 1 : frame + 1]).astype(np.float16))
    sure = np.clip(np.array(scores, np.float64), 1e-6, 1.0 - 1e-6)
    return Candidates(
        count,
        np.array(scenes, np.int64),
        np.array(frames, np.int64),
        np.log(sure / (1.0 - sure)),
        np.array(seen, np.float16).reshape(len(seen), -1),
    )
