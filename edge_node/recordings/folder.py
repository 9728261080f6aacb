"""The folder of recorded triggers: WAV files whose names hold all metadata.

A name is `20260131T101502.123Z-trigger-0.812-new.wav`: time (UTC), trigger or near-miss, score, and a person's label. A
new label is a new name: it needs no space on a full disk.
"""

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, TypeAlias, cast

from edge_node.audio.wav import wav
from edge_node.recordings.selection import Kind, Selection
from infra import files
from infra.places import kept_at_home
from infra.settings.edge import EdgeSettings

Label: TypeAlias = Literal["new", "word", "other"]
"""A person's label: none yet, the word, not the word."""

PRIVATE = 0o700

_NAME = re.compile(r"(\d{8}T\d{6}\.\d{3}Z)-(trigger|near)-([01]\.\d{3})-(new|word|other)\.wav")
_TIME = "%Y%m%dT%H%M%S.%f"


@dataclass(frozen=True, slots=True)
class Kept:
    """A stored recording.

    Attributes:
    id: its time as in its name; unique.
    bytes: size of its file.
    """

    id: str
    kind: Kind
    score: float
    label: Label
    bytes: int

    @property
    def name(self) -> str:
        """The name of its file."""
        return f"{self.id}-{self.kind}-{self.score:.3f}-{self.label}.wav"

    @property
    def at(self) -> datetime:
        """The time of the recording."""
        return datetime.strptime(self.id.removesuffix("Z"), _TIME).replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is stored, and for how long."""

    count: int
    bytes: int
    days: float

    @classmethod
    def of(cls, edge: EdgeSettings) -> "Limits":
        """As configured."""
        return cls(edge.keep_triggers_count, round(edge.keep_triggers_mib * 2**20), edge.keep_triggers_days)


class TriggerFolder:
    """All methods may raise OSError."""

    def __init__(self, state_dir: Path, device_id: str) -> None:
        self.path = kept_at_home(state_dir, "edge.state_dir") / f"{device_id}.triggers"

    def all(self) -> list[Kept]:
        """All recordings, oldest first; files with other names are ignored."""
        if not self.path.is_dir():
            return []
        return sorted((kept for file in self.path.iterdir() if (kept := _kept(file))), key=lambda kept: kept.id)

    def keep(self, find: Selection, at: datetime) -> Kept:
        """Store a recording; durable when it returns. Only the owner can read the folder."""
        self.path.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        self.path.chmod(PRIVATE)
        content = wav(find.samples)
        utc = at.astimezone(UTC)
        name = f"{utc:%Y%m%dT%H%M%S}.{utc.microsecond // 1000:03d}Z"
        kept = Kept(name, find.kind, min(max(find.score, 0.0), 1.0), "new", len(content))
        files.write(self.path / kept.name, content)
        return kept

    def label(self, kept: Kept, label: Label) -> Kept:
        """Set the label."""
        labelled = replace(kept, label=label)
        self.path.joinpath(kept.name).rename(self.path / labelled.name)
        return labelled

    def forget(self, kept: Kept) -> None:
        """Delete the recording; does nothing if it is gone."""
        self.path.joinpath(kept.name).unlink(missing_ok=True)

    def clear_up(self) -> None:
        """Delete unfinished files of a killed process; only for the one process that writes."""
        for file in self.path.glob(".*") if self.path.is_dir() else ():
            file.unlink(missing_ok=True)

    def prune(self, limits: Limits, now: datetime, room_for: int = 0) -> None:
        """Delete what is too old, then what is too much with this many bytes more: unlabelled and near-misses first."""
        until = now - timedelta(days=limits.days)
        rest = self.all()
        for kept in [kept for kept in rest if kept.at < until]:
            self.forget(kept)
            rest.remove(kept)
        count = limits.count - bool(room_for)
        rest.sort(key=lambda kept: (kept.label != "new", kept.kind == "trigger", kept.id))
        total = sum(kept.bytes for kept in rest) + room_for
        while rest and (len(rest) > count or total > limits.bytes):
            kept = rest.pop(0)
            self.forget(kept)
            total -= kept.bytes


def _kept(file: Path) -> Kept | None:
    found = _NAME.fullmatch(file.name)
    if found is None:
        return None
    try:
        size = file.stat().st_size
    except FileNotFoundError:  # deleted meanwhile
        return None
    name, kind, score, label = found.groups()
    return Kept(name, cast("Kind", kind), float(score), cast("Label", label), size)
