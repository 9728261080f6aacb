"""Recognises a sound file by its first bytes. No I/O."""

import shlex
from collections.abc import Callable
from pathlib import Path

HEAD_BYTES = 16
"""This many bytes identify a file."""

_RAW_ENDINGS = (".raw", ".pcm", ".s16", ".s16le", ".sw")

# Raw samples may begin with any bytes, so more than four letters must match.
_KNOWN: tuple[tuple[Callable[[bytes], bool], str], ...] = (
    (lambda head: head[4:8] == b"ftyp", "MP4 or M4A"),
    (lambda head: head[:4] == b"OggS" and head[4:6] == b"\0\2", "Ogg (Vorbis or Opus)"),
    (lambda head: head[:8] == b"fLaC\0\0\0\x22" or head[:8] == b"fLaC\x80\0\0\x22", "FLAC"),
    (lambda head: head[:4] == b"FORM" and head[8:12] in {b"AIFF", b"AIFC"}, "AIFF"),
    (lambda head: head[:4] == b"\x1a\x45\xdf\xa3", "WebM or Matroska"),
    (lambda head: head[:8] == b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "WMA"),
    (lambda head: head[:5] == b"#!AMR", "AMR"),
    (lambda head: head[:3] == b"ID3" and head[3] in {2, 3, 4} and head[4] == 0, "MP3 (with an ID3 tag)"),
    (lambda head: head[:6] == b"caff\0\1", "Apple's CAF"),
    (lambda head: head[:8] == b"riff\x2e\x91\xcf\x11", "Sony's Wave64"),
    (lambda head: head[:4] == b"RIFF" and head[8:12] == b"AVI ", "AVI"),
    (lambda head: head[:8] == b"NIST_1A\n", "NIST SPHERE"),
    (lambda head: head[:4] == b"wvpk" and head[8:10] in {bytes([low, 4]) for low in range(2, 17)}, "WavPack"),
)


def foreign(head: bytes) -> str | None:
    """The name of a container format that is not read here, from at least HEAD_BYTES; None if unknown."""
    return next((name for matches, name in _KNOWN if len(head) >= HEAD_BYTES and matches(head)), None)


def conversion(path: Path, *, one_channel: bool = False) -> str:
    """A command line that converts this file for SARVIS; only its first channel if requested."""
    raw = "-f s16le -ar 16000 -ac 1 " if path.suffix.lower() in _RAW_ENDINGS else ""
    mono = "-af 'pan=mono|c0=c0'" if one_channel else "-ac 1"
    made = path.with_name(f"{path.stem or path.name}-16k.wav")
    return f"ffmpeg {raw}-i {_quoted(path)} {mono} -ar 16000 -c:a pcm_s16le {_quoted(made)}"


def _quoted(path: Path) -> str:
    # A name that begins with a dash would be read as an option.
    return shlex.quote(f"./{path}" if str(path).startswith("-") else str(path))
