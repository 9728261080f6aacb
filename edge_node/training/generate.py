"""Makes the plan's clips, one file each; what is there already is not made again."""

import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import soundfile

from edge_node.audio.format import SAMPLE_RATE_HZ
from edge_node.training.cores import cores
from edge_node.training.engines.seam import CannotSayError, Sound, Speak, trimmed
from edge_node.training.plan import Clip
from edge_node.training.progress import track
from edge_node.training.voices import Engine

_PEAK = 0.7
_SHORTEST_S = 0.12
_UNABLE = ".cannot"


def clip_path(cache: Path, clip: Clip) -> Path:
    """Where a clip is kept: 16 kHz, mono, FLAC."""
    return cache / "clips" / clip.engine / clip.name[:2] / f"{clip.name}.flac"


def generate(clips: list[Clip], cache: Path, voices: Path, workers: int | None = None) -> list[Clip]:
    """Say all clips that are not in the cache yet; those that exist in the end, as some voice cannot say something.

    Raises the first SettingsError of an engine.
    """
    # By name, which is as good as shuffled: whoever stops early has some of everything.
    missing = sorted((clip for clip in clips if not _tried(cache, clip)), key=lambda clip: clip.name)
    workers = workers or cores()
    blocks = [missing[at : at + 16] for at in range(0, len(missing), 16)]
    with ProcessPoolExecutor(workers) as pool:
        running = [pool.submit(_say_all, block, cache, voices) for block in blocks]
        for done in track(as_completed(running), "clips", len(running)):
            done.result()
    return [clip for clip in clips if clip_path(cache, clip).exists()]


def _tried(cache: Path, clip: Clip) -> bool:
    path = clip_path(cache, clip)
    return path.exists() or path.with_suffix(_UNABLE).exists()


def _say_all(clips: Iterable[Clip], cache: Path, voices: Path) -> None:
    for clip in clips:
        path = clip_path(cache, clip)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            sound = trimmed(_speaker(clip.engine, voices)(clip.line))
            if len(sound) < _SHORTEST_S * SAMPLE_RATE_HZ:
                raise CannotSayError(f"{clip.engine} said nothing for {clip.line}")  # noqa: TRY301 as bad as a refusal
        except CannotSayError as error:
            path.with_suffix(_UNABLE).write_text(str(error), encoding="utf-8")
            continue
        _write(path, sound)


def _write(path: Path, sound: Sound) -> None:
    """All or nothing: a process that is killed leaves no half file under the final name."""
    part = path.with_suffix(f".{os.getpid()}.part")
    soundfile.write(part, sound * (_PEAK / max(float(np.abs(sound).max()), 1e-6)), SAMPLE_RATE_HZ, format="FLAC")
    part.replace(path)


_speakers: dict[Engine, Speak] = {}


def _speaker(engine: Engine, voices: Path) -> Speak:
    """One per process; imported late, as one engine's absence is no matter for the others."""
    if engine not in _speakers:
        _speakers[engine] = _open(engine, voices)
    return _speakers[engine]


def _open(engine: Engine, voices: Path) -> Speak:
    from edge_node.training.engines import programs  # noqa: PLC0415

    if engine == "kokoro":
        from edge_node.training.engines.kokoro import speaker  # noqa: PLC0415

        return speaker(voices)
    if engine == "open_jtalk":
        from edge_node.training.engines.open_jtalk import open_jtalk  # noqa: PLC0415

        return open_jtalk
    return {"espeak": programs.espeak, "flite": programs.flite, "festival": programs.festival}[engine]
