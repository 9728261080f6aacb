"""What a model is measured on: held-out voices in known conditions, and hours of real audio without the word."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from edge_node.audio.format import FRAME_S, FRAME_SAMPLES, SAMPLE_RATE_HZ
from edge_node.training import acoustics
from edge_node.training.acoustics import Chance
from edge_node.training.engines.seam import Sound
from edge_node.training.features import make_in_parallel, read_clip
from edge_node.training.plan import Clip
from edge_node.training.recordings import Samples, join_recordings, recording
from edge_node.training.scenes import babble, piece
from edge_node.training.sources import MEASURED, RECORDINGS, Source
from edge_node.training.voices import Split
from edge_node.wakeword.batch import embeddings
from edge_node.wakeword.incremental import Floats

RECIPE = "2"
SCENE_FRAMES = 65
CLIP_STARTS_S = 2.4
_BLOCK = 32

Noise: TypeAlias = Literal["", "room", "home", "music", "babble"]


@dataclass(frozen=True, slots=True)
class Condition:
    """How a clip is heard.

    Attributes:
        noise: nothing, a room, or a room with noise of this kind in it.
        snr_db: how far the noise's RMS lies below the clip's.
    """

    noise: Noise = ""
    snr_db: int | None = None

    @property
    def name(self) -> str:
        """`clean`, `room`, `babble 10 dB`."""
        return f"{self.noise} {self.snr_db} dB" if self.snr_db is not None else self.noise or "clean"


CLEAN, ROOM = Condition(), Condition("room")
NOISY = tuple(Condition(noise, snr) for noise in ("home", "music", "babble") for snr in (20, 10, 5, 0))
CONDITIONS = (CLEAN, ROOM, *NOISY)

# No noise serves two splits, and none of the test comes from what a model learned from.
_NOISES: dict[Split, dict[Noise, tuple[str, ...]]] = {
    "train": {
        "home": ("lomiri-sounds",),
        "babble": ("asterisk-core-sounds-ru-wav", "gcin-voice", "pocketsphinx-testdata"),
    },
    "dev": {
        "home": ("unknown-horizons",),
        "music": ("asterisk-moh-opsound-wav",),
        "babble": ("asterisk-prompt-it-menardi-wav", "fillets-ng-data-cs"),
    },
    "test": {
        "home": ("bucklespring-data", "colobot-common-sounds"),
        "music": ("wesnoth-1.16-music",),
        "babble": ("asterisk-core-sounds-es-wav", "fillets-ng-data-nl", "klettres-data"),
    },
}


def noises(split: Split, conditions: Iterable[Condition]) -> tuple[Source, ...]:
    """Recordings in which scenes of these conditions find their noise."""
    names = {name for condition in conditions for name in _NOISES[split].get(condition.noise, ())}
    return tuple(source for source in RECORDINGS if source.name in names)


def heard(clips: Sequence[Clip], condition: Condition, cache: Path) -> Floats:
    """Embeddings of each clip in a scene of 5.2 s under a condition: float32 (clips, SCENE_FRAMES, 96)."""
    return np.concatenate([_heard(block, condition, cache) for block in blocks(clips)])


def hear_ahead(scenes: Iterable[tuple[Sequence[Clip], Condition]], cache: Path) -> None:
    """Put into the cache what `heard` will ask for, on all cores."""
    jobs = [(block, condition) for clips, condition in scenes for block in blocks(clips)]
    paths = [scenes_path("", block, condition, cache) for block, condition in jobs]
    make_in_parallel([(_write_heard, path, job) for path, job in zip(paths, jobs, strict=True)], cache, "scenes heard")


def blocks(clips: Sequence[Clip]) -> list[Sequence[Clip]]:
    """Clips in parts, of which each has a file of its own in the cache: a run that is stopped loses one."""
    return [clips[at : at + _BLOCK] for at in range(0, len(clips), _BLOCK)]


def scenes_path(what: str, clips: Sequence[Clip], condition: Condition, cache: Path) -> Path:
    """Where the cache keeps what is computed of one block of scenes; `what` is empty for embeddings."""
    names = hashlib.sha256(" ".join(clip.name for clip in clips).encode()).hexdigest()[:16]
    return cache / "measured" / f"scenes-{RECIPE}" / f"{condition.name.replace(' ', '-')}-{names}{what}.npy"


def _heard(clips: Sequence[Clip], condition: Condition, cache: Path) -> Floats:
    path = scenes_path("", clips, condition, cache)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.npy")
        _write_heard(part, cache, clips, condition)
        part.replace(path)
    found: Floats = np.load(path)
    return found


def _write_heard(path: Path, cache: Path, clips: Sequence[Clip], condition: Condition) -> None:
    every = np.concatenate([as_heard(clip, condition, cache) for clip in clips])
    np.save(path, embeddings(every).reshape(len(clips), SCENE_FRAMES, -1))


def as_heard(clip: Clip, condition: Condition, cache: Path) -> Samples:
    """The scene itself: int16 (SCENE_FRAMES x 1280,); the same every time."""
    chance = acoustics.chance_from(f"{RECIPE} {clip.name} {condition.name}")
    sound = read_clip(cache, clip)
    length = SCENE_FRAMES * FRAME_SAMPLES
    start = round(CLIP_STARTS_S * SAMPLE_RATE_HZ)
    sound = sound[: length - start]
    level = acoustics.rms(sound)
    out = np.zeros(length, np.float32)
    out[start : start + len(sound)] = sound
    if condition.noise:
        out = acoustics.in_room(out, chance)
    if condition.snr_db is not None:
        out = acoustics.at_snr(out, _noise(condition.noise, clip.split, length, cache, chance), condition.snr_db, level)
    quiet = chance.uniform(-24.0, -6.0)
    return acoustics.to_samples((out * (10 ** (quiet / 20) / max(float(np.abs(out).max()), 1e-6))).astype(np.float32))


def measured_recordings(cache: Path, sources: Sequence[Source] = MEASURED) -> dict[str, Floats]:
    """Embeddings of each package of recordings, frame by frame: float32 (frames, 96)."""
    join_recordings(cache, sources)
    paths = {source.name: cache / "measured" / "recordings" / f"{source.name}.npy" for source in sources}
    make_in_parallel([(_listen, path, (name,)) for name, path in paths.items()], cache, "hours of recordings")
    return {name: np.load(path) for name, path in paths.items()}


def hours(frames: int) -> float:
    """Of audio."""
    return frames * FRAME_S / 3600.0


def _noise(kind: Noise, split: Split, length: int, cache: Path, chance: Chance) -> Sound:
    names = _NOISES[split][kind]
    if kind == "babble":
        return babble(_recordings(cache, names), length, chance)
    found = piece(_recordings(cache, names), length, chance)
    if kind == "home":
        found = found + 0.5 * acoustics.steady_noise(length, chance)
    return found.astype(np.float32)


_loaded: dict[tuple[str, ...], Samples] = {}


def _recordings(cache: Path, names: tuple[str, ...]) -> Samples:
    if names not in _loaded:
        _loaded[names] = np.concatenate([recording(cache, name) for name in names])
    return _loaded[names]


def _listen(path: Path, cache: Path, name: str) -> None:
    np.save(path, embeddings(recording(cache, name)))
