"""Embeddings of scenes and of passages, the heads' food, kept in the cache block by block."""

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass
from functools import cache as remember
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from edge_node.audio.format import FRAME_SAMPLES, SAMPLE_RATE_HZ
from edge_node.training import acoustics
from edge_node.training.cores import processes
from edge_node.training.engines.seam import Sound
from edge_node.training.generate import clip_path
from edge_node.training.plan import Clip
from edge_node.training.progress import track
from edge_node.training.recordings import Samples, recording
from edge_node.training.scenes import SCENE_FRAMES, Surroundings, passage, scene
from edge_node.training.sources import PERMISSIVE
from edge_node.wakeword.batch import embeddings
from edge_node.wakeword.native import HEAD_EMBEDDINGS

RECIPE = "4"
"""Changes whenever scenes or features change, so that no old cache is taken for new."""

QUIET = 4

KEPT_FRAMES = 28
_FIRST_KEPT = SCENE_FRAMES - KEPT_FRAMES
_BLOCK = 64
_PASSAGE_S = 12.0

Half = npt.NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class MadeUp:
    """How many minutes of sound without the word are made up."""

    music_min: int = 25
    steady_min: int = 20
    babble_min: int = 20


ALL_MADE_UP = MadeUp()


@dataclass(frozen=True, slots=True)
class SceneBlock:
    """Embeddings of scenes.

    Attributes:
        embedded: float16 (scenes, KEPT_FRAMES, 96), the last frames of each scene.
        ends: for each scene, where its clip ends, in samples from the end of frame `_FIRST_KEPT - 1`.
        clips: index of each scene's clip in the list that the block was asked for.
    """

    embedded: Half
    ends: npt.NDArray[np.int64]
    clips: npt.NDArray[np.int64]

    def where(self, chosen: npt.NDArray[np.bool_]) -> "SceneBlock":
        """Some of the scenes."""
        return SceneBlock(self.embedded[chosen], self.ends[chosen], self.clips[chosen])


def scene_features(
    clips: Sequence[Clip], variants: Sequence[int], cache: Path, seed: int = 2026, made_up: MadeUp = ALL_MADE_UP
) -> SceneBlock:
    """All clips in a scene of each of `variants`, one variant after the other; from QUIET on these are quiet ones."""
    blocks = [(at, variant) for variant in variants for at in range(0, len(clips), _BLOCK)]
    jobs = [(clips[at : at + _BLOCK], variant, seed, made_up) for at, variant in blocks]
    paths = [_scene_path(cache, part, variant, seed) for part, variant, *_ in jobs]
    make_in_parallel([(_write_scenes, path, job) for path, job in zip(paths, jobs, strict=True)], cache, "scenes")
    loaded = [np.load(path) for path in paths]
    return SceneBlock(
        np.concatenate([block["embedded"] for block in loaded]),
        np.concatenate([block["ends"] for block in loaded]),
        np.concatenate([at + np.arange(len(part)) for (at, _), (part, *_) in zip(blocks, jobs, strict=True)]),
    )


def passage_features(
    cache: Path, speech_clips: Sequence[Clip], passes: int, seed: int = 2026, made_up: MadeUp = ALL_MADE_UP
) -> list[Half]:
    """What may be in every fold: sentences, permissive recordings, made-up music and noise, in rooms and with noise.

    A list of float16 (frames, 96), each without a gap.
    """
    names = ["sentences", *(source.name for source in PERMISSIVE), "music", "steady", "babble"]
    jobs = [
        (name, number, seed, tuple(speech_clips) if name == "sentences" else (), made_up)
        for name in names
        for number in range(passes)
    ]
    folder = cache / "features" / f"passages-{RECIPE}"
    paths = [folder / f"{name}-{number}-{seed}-{len(clips)}.npy" for name, number, _, clips, _ in jobs]
    make_in_parallel([(_write_passage, path, job) for path, job in zip(paths, jobs, strict=True)], cache, "passages")
    return [np.load(path) for path in paths]


def heard_otherwise(
    cache: Path, names: Sequence[str], passes: int, seed: int = 2026, made_up: MadeUp = ALL_MADE_UP
) -> dict[str, list[Half]]:
    """Recordings as they would have been in other rooms, with noise, faster or slower; by name, as passages.

    Words are learned in noise. So noise must not tell them from real speech.
    """
    jobs = [(name, number, seed, made_up) for name in names for number in range(passes)]
    folder = cache / "features" / f"passages-{RECIPE}"
    paths = [folder / f"{name}-{number}-{seed}-otherwise.npy" for name, number, *_ in jobs]
    make_in_parallel([(_write_otherwise, path, job) for path, job in zip(paths, jobs, strict=True)], cache, "otherwise")
    found: dict[str, list[Half]] = {name: [] for name in names}
    for (name, *_), path in zip(jobs, paths, strict=True):
        found[name].append(np.load(path))
    return found


def window(block: Half, last: npt.NDArray[np.int64], row: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """The 16 embeddings that end with frame `last` of scene `row`: float32 (n, 16, 96)."""
    steps = np.arange(-HEAD_EMBEDDINGS + 1, 1)
    return np.asarray(block[row[:, None], last[:, None] + steps], np.float32)


Job = tuple[Callable[..., None], Path, tuple[object, ...]]


def make_in_parallel(jobs: Sequence[Job], cache: Path, what: str) -> None:
    """Run those jobs (function, path, arguments) whose file is missing; a function writes what it is told to."""
    missing = [job for job in jobs if not job[1].exists()]
    if not missing:
        return
    with processes() as pool:
        running = [pool.submit(_run, work, path, cache, arguments) for work, path, arguments in missing]
        for done in track(as_completed(running), what, len(running)):
            done.result()


def _run(work: Callable[..., None], path: Path, cache: Path, arguments: tuple[object, ...]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.stem}.{os.getpid()}.part{path.suffix}")
    work(part, cache, *arguments)
    part.replace(path)


def read_clip(cache: Path, clip: Clip) -> Sound:
    """A clip's audio."""
    sound: Sound = soundfile.read(clip_path(cache, clip), dtype="float32")[0]
    return sound


def _scene_path(cache: Path, clips: Sequence[Clip], variant: int, seed: int) -> Path:
    names = hashlib.sha256(" ".join(clip.name for clip in clips).encode()).hexdigest()[:16]
    return cache / "features" / f"scenes-{RECIPE}" / f"{names}-{variant}-{seed}.npz"


@remember
def surroundings(cache: Path, made_up: MadeUp = ALL_MADE_UP) -> Surroundings:
    """What training scenes may have around them: recordings for training, sentences, made-up music."""
    speech = [recording(cache, source.name) for source in PERMISSIVE if source.kind == "speech"]
    music = [recording(cache, source.name) for source in PERMISSIVE if source.kind == "music"]
    said = cache / "features" / "sentences.npy"
    if said.exists():
        speech.append(np.load(said))
    return Surroundings(np.concatenate(speech), np.concatenate([*music, _made_up_music(cache, made_up)]))


def join_sentences(cache: Path, clips: Sequence[Clip]) -> None:
    """Keep all sentences as one recording for scenes to take pieces of."""
    path = cache / "features" / "sentences.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, _sentences(cache, clips))


def _sentences(cache: Path, clips: Sequence[Clip]) -> Samples:
    pause = np.zeros(SAMPLE_RATE_HZ // 4, np.float32)
    return acoustics.to_samples(np.concatenate([part for clip in clips for part in (read_clip(cache, clip), pause)]))


def _made_up_music(cache: Path, made_up: MadeUp) -> Samples:
    path = cache / "features" / f"music-{made_up.music_min}.npy"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        chance = np.random.default_rng(7)
        songs = [acoustics.made_up_music(60 * SAMPLE_RATE_HZ, chance) * 0.1 for _ in range(made_up.music_min)]
        part = path.with_name(f"{os.getpid()}.part.npy")
        np.save(part, acoustics.to_samples(np.concatenate(songs)))
        part.replace(path)
    made: Samples = np.load(path)
    return made


def _write_scenes(path: Path, cache: Path, clips: Sequence[Clip], variant: int, seed: int, made_up: MadeUp) -> None:
    made = [
        scene(
            read_clip(cache, clip),
            surroundings(cache, made_up),
            acoustics.chance_from(f"{seed} {clip.name} {variant}"),
            quiet=variant >= QUIET,
        )
        for clip in clips
    ]
    embedded = embeddings(np.concatenate([samples for samples, _ in made])).reshape(len(made), SCENE_FRAMES, -1)
    ends = np.array([end - _FIRST_KEPT * FRAME_SAMPLES for _, end in made])
    np.savez(path, ends=ends, embedded=embedded[:, _FIRST_KEPT:].astype(np.float16))


def _write_passage(
    path: Path, cache: Path, name: str, number: int, seed: int, clips: Sequence[Clip], made_up: MadeUp
) -> None:
    around = surroundings(cache, made_up)
    chance = acoustics.chance_from(f"{seed} {name} {number}")
    if name == "sentences":
        whole = _sentences(cache, clips).astype(np.float32) / 32768.0
    elif name == "music":
        whole = _made_up_music(cache, made_up).astype(np.float32) / 32768.0
    elif name == "steady":
        quarters = range(made_up.steady_min * 4)
        whole = np.concatenate([acoustics.steady_noise(15 * SAMPLE_RATE_HZ, chance) for _ in quarters]) * 0.1
    elif name == "babble":
        from edge_node.training.scenes import babble  # noqa: PLC0415

        quarters = range(made_up.babble_min * 4)
        whole = np.concatenate([babble(around.speech, 15 * SAMPLE_RATE_HZ, chance) for _ in quarters]) * 0.1
    else:
        whole = recording(cache, name).astype(np.float32) / 32768.0
    _save_passages(path, [passage(part, around, chance) for part in _pieces(whole)])


def _write_otherwise(path: Path, cache: Path, name: str, number: int, seed: int, made_up: MadeUp) -> None:
    around = surroundings(cache, made_up)
    chance = acoustics.chance_from(f"{seed} {name} {number} otherwise")
    whole = recording(cache, name).astype(np.float32) / 32768.0
    _save_passages(path, [passage(acoustics.at_speed(part, chance), around, chance) for part in _pieces(whole)])


def _pieces(whole: Sound) -> list[Sound]:
    step = int(_PASSAGE_S * SAMPLE_RATE_HZ)
    return [whole[at : at + step] for at in range(0, len(whole), step)]


def _save_passages(path: Path, heard: Sequence[Samples]) -> None:
    embedded = embeddings(np.concatenate(heard))
    np.save(path, embedded[~np.isnan(embedded).any(1)].astype(np.float16))


def delays(ends: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """For each scene and kept frame, samples from the clip's end to the frame's end: (scenes, KEPT_FRAMES)."""
    frame_ends: npt.NDArray[np.int64] = (np.arange(KEPT_FRAMES) + 1) * FRAME_SAMPLES
    return frame_ends[None, :] - ends[:, None]
