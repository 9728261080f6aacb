"""Sound that comes through a pipe: what its first bytes say, in whatever pieces they come."""

import io
import struct
import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from contract.errors import SettingsError
from edge_node.audio.stream import Format, SoundStream
from tests.support.programs import need

TIMEOUT_S = 30.0
RATE_HZ = 48_000

Floats = npt.NDArray[np.float64]


def tones(seconds: float = 0.05, rate_hz: int = RATE_HZ) -> Floats:
    """Two channels that differ, float (n, 2)."""
    at = np.arange(round(seconds * rate_hz)) / rate_hz
    return 0.5 * np.stack((np.sin(2 * np.pi * 440 * at), np.sin(2 * np.pi * 660 * at)), axis=1)


def heard(content: bytes, channel: int = 1, piece: int = 1 << 20) -> tuple[npt.NDArray[np.int16], Format]:
    stream = SoundStream(channel=channel)
    made = [stream.feed(content[at : at + piece]) for at in range(0, len(content), piece)]
    made.append(stream.finish())
    assert stream.format is not None
    return np.concatenate(made), stream.format


def written(kind: str, subtype: str, endian: str = "FILE") -> bytes:
    content = io.BytesIO()
    soundfile.write(content, tones(), RATE_HZ, format=kind, subtype=subtype, endian=endian)
    return content.getvalue()


def like(samples: npt.NDArray[np.int16], wanted: Floats, within: float) -> bool:
    return len(samples) == len(wanted) and bool(np.abs(samples / 32768.0 - wanted).max() < within)


@pytest.mark.parametrize("piece", [1, 7, 4096])
@pytest.mark.parametrize("channel", [1, 2])
@pytest.mark.parametrize(
    ("kind", "subtype", "endian"),
    [
        ("WAV", "PCM_U8", "FILE"), ("WAV", "PCM_16", "FILE"), ("WAV", "PCM_24", "FILE"), ("WAV", "PCM_32", "FILE"),
        ("WAV", "FLOAT", "FILE"), ("WAV", "DOUBLE", "FILE"), ("WAV", "ALAW", "FILE"), ("WAV", "ULAW", "FILE"),
        ("WAVEX", "PCM_16", "FILE"), ("WAVEX", "PCM_24", "FILE"), ("WAVEX", "FLOAT", "FILE"), ("WAV", "PCM_16", "BIG"),
        ("RF64", "PCM_16", "FILE"), ("RF64", "FLOAT", "FILE"), ("AU", "PCM_16", "FILE"), ("AU", "PCM_S8", "FILE"),
        ("AU", "PCM_24", "FILE"), ("AU", "FLOAT", "FILE"), ("AU", "DOUBLE", "FILE"), ("AU", "ULAW", "FILE"),
        ("AU", "ALAW", "FILE"), ("AU", "PCM_16", "LITTLE"), ("AU", "FLOAT", "LITTLE"), ("AU", "PCM_24", "LITTLE"),
    ],
)  # fmt: skip
def test_a_header_is_read_in_whatever_pieces_it_comes(
    kind: str, subtype: str, endian: str, channel: int, piece: int
) -> None:
    samples, given = heard(written(kind, subtype, endian), channel, piece)
    assert (given.rate_hz, given.channels) == (RATE_HZ, 2)
    within = {"PCM_U8": 0.01, "PCM_S8": 0.01, "ALAW": 0.02, "ULAW": 0.02}.get(subtype, 1e-4)
    assert like(samples, tones()[:, channel - 1], within)


@pytest.mark.parametrize("size", [0, 0x7FFF_F000, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF])
def test_a_length_that_the_recorder_did_not_know_is_none(size: int) -> None:
    content = bytearray(written("WAV", "PCM_16"))
    at = content.index(b"data") + 4
    content[at : at + 4] = content[4:8] = struct.pack("<I", size)
    samples, _ = heard(bytes(content))
    assert like(samples, tones()[:, 0], 1e-4)


def chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def test_what_stands_before_and_behind_the_samples_is_no_sound() -> None:
    plain = written("WAV", "PCM_16")
    body = chunk(b"JUNK", bytes(28)) + plain[12:36] + chunk(b"LIST", b"INFOISFT\5\0\0\0abcd\0") + plain[36:]
    behind = chunk(b"LIST", b"\x7f" * 33)
    samples, _ = heard(b"RIFF\0\0\0\0WAVE" + body + behind, piece=5)
    assert like(samples, tones()[:, 0], 1e-4)


def test_files_one_behind_the_other_are_one_sound() -> None:
    samples, _ = heard(written("WAV", "PCM_16") * 3, piece=1000)
    assert like(samples, np.tile(tones()[:, 0], 3), 1e-4)


@pytest.mark.parametrize(
    ("first", "count"),
    [
        (b"RIFF", 1280), (b"RIFFxxxxWAVe", 1280), (b".snd\xff\xff\xff\xff", 1280), (b"OggSxx", 1280), (b"fLaCx", 1280),
        (b"FORMxxxxxxxx", 1280), (b"ID3\xff", 1280), (b"\0" * 16, 1280), (b"RIFF", 2), (b"R", 1), (b"", 0),
    ],
)  # fmt: skip
def test_raw_sound_may_begin_with_anything(first: bytes, count: int) -> None:
    content = first.ljust(2 * count, b"\1")
    stream = SoundStream()
    samples = np.concatenate((stream.feed(content[:5]), stream.feed(content[5:]), stream.finish()))
    np.testing.assert_array_equal(samples, np.frombuffer(content[: len(content) // 2 * 2], "<i2"))


def test_raw_sound_has_the_rate_that_was_asked_for() -> None:
    stream = SoundStream(Format(44_100), channel=2)
    assert stream.feed(bytes(range(32))).tolist() == np.frombuffer(bytes(range(32)), "<i2").tolist()
    assert stream.format == Format(44_100)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\0\0\0\x20ftypM4A \0\0\0\0", "MP4 or M4A"),
        (b"OggS\0\2\0\0\0\0\0\0\0\0\0\0", "Ogg"),
        (b"fLaC\0\0\0\x22" + bytes(8), "FLAC"),
        (b"FORM\0\0\0\0AIFFCOMM", "AIFF"),
        (b"FORM\0\0\0\0AIFCFVER", "AIFF"),
        (b"\x1a\x45\xdf\xa3" + bytes(12), "WebM"),
        (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11" + bytes(8), "WMA"),
        (b"#!AMR-WB\n" + bytes(8), "AMR"),
        (b"ID3\4\0\0" + bytes(10), "MP3"),
        (b"caff\0\1\0\0" + bytes(8), "CAF"),
    ],
)
def test_what_is_no_stream_of_samples_is_refused_by_its_name(content: bytes, says: str) -> None:
    with pytest.raises(SettingsError, match=f"{says}.*ffmpeg"):
        heard(content)


def wav(tag: int = 1, channels: int = 1, rate_hz: int = 16_000, bits: int = 16) -> bytes:
    align = channels * ((bits + 7) // 8)
    described = struct.pack("<HHIIHH", tag, channels, rate_hz, rate_hz * align, align, bits)
    return b"RIFF\0\0\0\0WAVE" + chunk(b"fmt ", described) + chunk(b"data", bytes(64))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (wav(tag=2, bits=4), "ADPCM"),
        (wav(tag=0x55), "MP3"),
        (wav(tag=0x1234), "0x1234"),
        (wav(rate_hz=4_000), "4000 Hz"),
        (wav(rate_hz=0), "0 Hz"),
        (wav(channels=0), "0 channels"),
        (wav(channels=400), "400 channels"),
        (wav(bits=64), "64 bits"),
        (wav(tag=3, bits=16), "16 bits"),
        (b"RIFF\0\0\0\0WAVE" + chunk(b"data", bytes(64)), "without a format"),
        (b"RIFF\0\0\0\0WAVE" + chunk(b"fmt ", bytes(8)) + bytes(16), "damaged"),
        (b"RIFF\0\0\0\0WAVExxxx\xff\xff\xff\x7f" + bytes(16), "damaged"),
        (b".snd\0\0\0\x18\0\0\0\0\0\0\0\x17" + bytes(16), "encoding 23"),
        (wav() + wav(rate_hz=8_000), "changed from 16000 to 8000"),
    ],
)
def test_a_header_that_cannot_be_followed_is_refused_by_what_it_says(content: bytes, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        heard(content)


def test_a_channel_that_the_sound_does_not_have_is_refused_with_those_it_has() -> None:
    with pytest.raises(SettingsError, match=r"2 channels.*edge\.channel, which is 3"):
        heard(written("WAV", "PCM_16"), channel=3)


def test_numbers_that_are_none_are_no_sound() -> None:
    content = io.BytesIO()
    soundfile.write(content, np.array([0.5, np.nan, np.inf, -np.inf, 0.25]), RATE_HZ, format="WAV", subtype="FLOAT")
    assert heard(content.getvalue())[0].tolist() == [16384, 0, 32767, -32768, 8192]


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "tones.wav"
    soundfile.write(path, tones(1.0), RATE_HZ, subtype="PCM_16")
    return path


@pytest.mark.parametrize(
    "command",
    [
        "sox {file} -t wav -", "sox {file} -e float -b 32 -t wav -", "sox {file} -b 24 -t wav -", "sox {file} -t au -",
        "sox {file} -e u-law -t wav -", "ffmpeg -v error -i {file} -f wav -", "ffmpeg -v error -i {file} -f au -",
        "ffmpeg -v error -i {file} -c:a pcm_f32le -f wav -", "ffmpeg -v error -i {file} -c:a pcm_u8 -f wav -",
        "ffmpeg -v error -i {file} -rf64 always -f wav -",
    ],
)  # fmt: skip
def test_what_real_programs_write_into_a_pipe_is_heard(recording: Path, command: str) -> None:
    words = command.format(file=recording).split()
    need(words[0])
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
    ) as process:
        content, _ = process.communicate(timeout=TIMEOUT_S)
    samples, given = heard(content, channel=2)
    assert given.rate_hz == RATE_HZ
    assert like(samples, tones(1.0)[:, 1], 0.03)
