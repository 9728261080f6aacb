"""Recordings as people have them: of phones, of recorders that were cut off, of two channels that cancel."""

import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from contract.errors import SettingsError
from edge_node.audio.soundfiles import read_wav
from tests.support.programs import needs

CLIP = Path(__file__).parents[4] / "sarvis" / "clips" / "ssabiseu.wav"
TIMEOUT_S = 60.0


def noise(count: int, channels: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.random.default_rng(1).normal(0.0, 0.1, (count, channels))


@pytest.mark.parametrize(
    "gains", [(1.0, -1.0), (1.0, -0.8), (-1.0, 1.0), (1.0, 1.0, -1.0, -1.0), (1.0, -1.0, 0.0, 0.0)]
)
def test_channels_that_cancel_each_other_are_told_as_such(tmp_path: Path, gains: tuple[float, ...]) -> None:
    path = tmp_path / "upside down.wav"
    soundfile.write(path, noise(16_000, 1) * np.array(gains), 16_000)
    with pytest.raises(SettingsError, match=r"upside down\.wav: its channels cancel.*ffmpeg.*c0=c0"):
        read_wav(path)


@pytest.mark.parametrize("gains", [(1.0,), (1.0, 1.0), (1.0, 0.0), (0.0,) * 7 + (1.0,), (1.0, 0.01), (0.0, 0.0)])
def test_channels_that_do_not_cancel_are_mixed(tmp_path: Path, gains: tuple[float, ...]) -> None:
    path = tmp_path / "fine.wav"
    soundfile.write(path, noise(16_000, 1) * np.array(gains), 16_000)
    assert len(read_wav(path)) == 16_000


def test_channels_that_have_nothing_to_do_with_each_other_are_mixed(tmp_path: Path) -> None:
    path = tmp_path / "fine.wav"
    soundfile.write(path, noise(16_000, 8), 16_000)
    assert read_wav(path).any()


@pytest.mark.parametrize("size", [0, 0x7FFF_F000, 0x8000_0000, 0xFFFF_FFFF])
def test_what_a_recorder_wrote_into_a_pipe_is_read_to_its_end(tmp_path: Path, size: int) -> None:
    content = bytearray(CLIP.read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = content[4:8] = struct.pack("<I", size)
    path = tmp_path / "piped.wav"
    path.write_bytes(content)
    np.testing.assert_array_equal(read_wav(path), read_wav(CLIP))


@needs("ffmpeg")
@pytest.mark.parametrize(("ending", "name"), [("m4a", "MP4"), ("webm", "WebM"), ("wma", "WMA"), ("mp4", "MP4")])
def test_a_phones_recording_is_refused_with_a_command_that_converts_it(tmp_path: Path, ending: str, name: str) -> None:
    path = tmp_path / f"my word.{ending}"
    make = ["ffmpeg", "-v", "error", "-i", str(CLIP), "-ar", "48000", str(path)]
    subprocess.run(make, check=True, stdin=subprocess.DEVNULL, timeout=TIMEOUT_S)
    with pytest.raises(SettingsError, match=rf"my word\.{ending}: is {name}") as refused:
        read_wav(path)
    advised = str(refused.value).partition("convert it with: ")[2]
    subprocess.run(advised, shell=True, check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S)  # noqa: S602
    assert len(read_wav(tmp_path / "my word-16k.wav")) == pytest.approx(len(read_wav(CLIP)), rel=0.2)


@needs("ffmpeg")
@pytest.mark.parametrize("name", ["it's $HOME.pcm", "-f.raw", "word.s16", "word.txt", "word"])
def test_the_command_fits_any_name(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path(name)
    path.write_bytes(b"#!AMR\n" + bytes(3200) if path.suffix in {"", ".txt"} else np.full(16_000, 900, "<i2").tobytes())
    with pytest.raises(SettingsError) as refused:
        read_wav(path)
    advised = str(refused.value).partition("convert it with: ")[2]
    assert advised.startswith("ffmpeg ")
    if path.suffix in {".pcm", ".raw", ".s16"}:
        run = ["sh", "-c", f"{advised} && ls"]
        subprocess.run(run, check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S)
        assert len(read_wav(Path(f"{path.stem}-16k.wav"))) == 16_000


@pytest.mark.parametrize(
    ("kind", "subtype"), [("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III"), ("AIFF", "PCM_16")]
)
def test_what_the_library_reads_is_read_whatever_its_name(tmp_path: Path, kind: str, subtype: str) -> None:
    path = tmp_path / "word.wav"
    soundfile.write(path, noise(16_000, 1)[:, 0], 16_000, format=kind, subtype=subtype)
    assert len(read_wav(path)) >= 16_000
