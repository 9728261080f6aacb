"""Converts bytes of a program or standard input to samples: raw, or with a header.

WAV in all its kinds (also RF64, RIFX and the endless ones that recorders write into a pipe) and AU are read; other
recognised formats are refused by name. No I/O.
"""

import struct
from collections.abc import Generator
from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeAlias

import numpy as np

from contract.errors import SettingsError
from edge_node.audio.format import SAMPLE_RATE_HZ
from edge_node.audio.formats import HEAD_BYTES, foreign
from edge_node.audio.ring import Block

RAW = "raw sound is 16 bits little endian, mono, 16000 Hz (or edge.rate_hz)"

Encoding: TypeAlias = Literal["unsigned", "signed", "float", "a-law", "mu-law"]
Order: TypeAlias = Literal["<", ">"]

_SLOWEST_HZ, _FASTEST_HZ, _MOST_CHANNELS = 8_000, 192_000, 64
_INSTEAD = "let the program write raw sound, or WAV of PCM, as `ffmpeg ... -ac 1 -ar 16000 -f wav -` does"
_EXTENSIBLE, _PCM = 0xFFFE, 1
_WAVS: dict[int, Encoding] = {_PCM: "signed", 3: "float", 6: "a-law", 7: "mu-law"}
_OTHER_WAVS = {2: "ADPCM", 0x11: "IMA ADPCM", 0x31: "GSM", 0x50: "MPEG", 0x55: "MP3", 0xFF: "AAC", 0x161: "WMA"}
_AU: dict[int, tuple[Encoding, int]] = {
    1: ("mu-law", 1), 2: ("signed", 1), 3: ("signed", 2), 4: ("signed", 3), 5: ("signed", 4), 6: ("float", 4),
    7: ("float", 8), 27: ("a-law", 1),
}  # fmt: skip
_ENDLESS = 0x7F00_0000
"""A recorder that does not know the length writes 0, or a value from here on: 0x7ffff000, 0x80000000, 0xffffffff."""
_LONGEST_CHUNK = 1 << 24
"""The longest header."""
_SIZES: dict[Encoding, tuple[int, ...]] = {
    "unsigned": (1,), "signed": (1, 2, 3, 4), "float": (4, 8), "a-law": (1,), "mu-law": (1,)
}  # fmt: skip
_AUS: dict[bytes, Order] = {b".snd": ">", b"dns.": "<"}
_RIFFS: dict[bytes, Order] = {b"RIFF": "<", b"RF64": "<", b"BW64": "<", b"RIFX": ">"}

Steps: TypeAlias = Generator[None, None, bool]
"""Yields where more bytes are needed; receives whether the stream went on."""


@dataclass(frozen=True, slots=True)
class Format:
    """The format of samples in a stream; `size` is in bytes, of one sample of one channel."""

    rate_hz: int = SAMPLE_RATE_HZ
    channels: int = 1
    encoding: Encoding = "signed"
    size: int = 2
    order: Order = "<"

    @property
    def frame_bytes(self) -> int:
        """Bytes of one sample of all channels."""
        return self.channels * self.size


class SoundStream:
    """Converts bytes, in pieces of any length, to samples of one channel; raises SettingsError for other data.

    Args:
    raw: the format of a stream without a header; mono.
    channel: which channel of a stream with a header, from 1.

    Attributes:
    format: the format of the samples from `feed`; None until it is known.
    """

    def __init__(self, raw: Format | None = None, channel: int = 1) -> None:
        self.format: Format | None = None
        self._raw = raw or Format()
        self._channel = channel
        self._buffer = bytearray()
        self._made: list[Block] = []
        self._ended = False
        self._order: Order = "<"
        self._steps = self._parse()

    def feed(self, chunk: bytes) -> Block:
        """int16 (n,) at the format's rate; an incomplete sample waits."""
        self._buffer += chunk
        next(self._steps, None)
        made, self._made = self._made, []
        return np.concatenate(made) if made else np.empty(0, np.int16)

    def finish(self, *, fill: bool = False) -> Block:
        """The stream has ended; with `fill`, a last half sample of raw sound is completed."""
        self._ended = True
        if fill and self.format in {None, self._raw} and len(self._buffer) % self._raw.size:
            self._buffer += bytes(self._raw.size - len(self._buffer) % self._raw.size)
        return self.feed(b"")

    def _parse(self) -> Steps:
        yield from self._want(HEAD_BYTES)
        head = bytes(self._buffer[:HEAD_BYTES])
        if (name := foreign(head)) is not None:
            raise SettingsError(f"the sound is {name}, which SARVIS does not read from a stream: {_INSTEAD}")
        if head[:4] in _RIFFS and head[8:12] == b"WAVE":
            return (yield from self._wav())
        if _is_au(head):
            return (yield from self._au())
        return (yield from self._samples(self._raw, None, 1))

    def _wav(self) -> Steps:
        """Reads chunk after chunk; also file after file, as a loop of recorders writes them."""
        described: Format | None = None
        while (yield from self._want(12)):
            name = bytes(self._buffer[:4])
            if name in _RIFFS:
                self._order, described = _RIFFS[name], None
                del self._buffer[:12]
                continue
            size = int(struct.unpack_from(f"{self._order}I", self._buffer, 4)[0])
            if name == b"data":
                if described is None:
                    raise SettingsError(f"the sound has a WAV header without a format: {_INSTEAD}")
                del self._buffer[:8]
                endless = size == 0 or size >= _ENDLESS
                yield from self._samples(described, None if endless else size, self._channel)
                yield from self._pass_over(size % 2)
                continue
            if size > _LONGEST_CHUNK:
                raise SettingsError(f"the sound has a WAV header that is damaged: {_INSTEAD}")
            if name == b"fmt " and (yield from self._want(8 + size)):
                described = self._wav_format(bytes(self._buffer[8 : 8 + size]))
            yield from self._pass_over(8 + size + size % 2)
        return False

    def _au(self) -> Steps:
        yield from self._want(24)
        if len(self._buffer) < 24:  # noqa: PLR2004 the length of the header
            return False
        order = _AUS[bytes(self._buffer[:4])]
        begins, size, encoding, rate_hz, channels = struct.unpack_from(f"{order}5I", self._buffer, 4)
        if encoding not in _AU:
            raise SettingsError(f"the sound has an AU header that says encoding {encoding}: {_INSTEAD}")
        kind, width = _AU[encoding]
        given = self._checked(Format(rate_hz, channels, kind, width, order), "AU")
        yield from self._pass_over(begins)
        return (yield from self._samples(given, size if 0 < size < _ENDLESS else None, self._channel))

    def _samples(self, given: Format, left: int | None, channel: int) -> Steps:
        """A number of bytes of samples, or all that come."""
        if self.format is not None and self.format.rate_hz != given.rate_hz:
            raise SettingsError(f"the sound changed from {self.format.rate_hz} to {given.rate_hz} Hz: {_INSTEAD}")
        self.format = given
        while left is None or left >= given.frame_bytes:
            ready = len(self._buffer) if left is None else min(len(self._buffer), left)
            ready -= ready % given.frame_bytes
            if ready:
                self._made.append(samples(bytes(self._buffer[:ready]), given, channel))
                del self._buffer[:ready]
                left = None if left is None else left - ready
            elif self._ended:
                return False
            else:
                yield
        return (yield from self._pass_over(left))

    def _want(self, count: int) -> Steps:
        """Wait until this many bytes are there; False if the stream ends before."""
        while len(self._buffer) < count:
            if self._ended:
                return False
            yield
        return True

    def _pass_over(self, count: int) -> Steps:
        while count > len(self._buffer):
            count -= len(self._buffer)
            self._buffer.clear()
            if self._ended:
                return False
            yield
        del self._buffer[:count]
        return True

    def _wav_format(self, told: bytes) -> Format:
        if len(told) < 16:  # noqa: PLR2004 what every kind of it has
            raise SettingsError(f"the sound has a WAV header that is damaged: {_INSTEAD}")
        tag, channels, rate_hz, _, align, bits = struct.unpack_from(f"{self._order}HHIIHH", told)
        if tag == _EXTENSIBLE and len(told) >= 26:  # noqa: PLR2004 there its real tag is the beginning of a GUID
            tag = struct.unpack_from(f"{self._order}H", told, 24)[0]
        if tag not in _WAVS:
            name = _OTHER_WAVS.get(tag, f"format 0x{tag:04x}")
            raise SettingsError(f"the sound has a WAV header that says {name}: {_INSTEAD}")
        # 20 bits use 3 bytes, and 24 bits sometimes 4.
        size = align // channels if channels and align and align % channels == 0 else (bits + 7) // 8
        kind: Encoding = "unsigned" if tag == _PCM and size == 1 else _WAVS[tag]
        return self._checked(Format(rate_hz, channels, kind, size, self._order), "WAV")

    def _checked(self, given: Format, header: str) -> Format:
        says = f"the sound has a {header} header that says"
        if not _SLOWEST_HZ <= given.rate_hz <= _FASTEST_HZ:
            raise SettingsError(f"{says} {given.rate_hz} Hz, not {_SLOWEST_HZ} to {_FASTEST_HZ}: {_INSTEAD}")
        if not 1 <= given.channels <= _MOST_CHANNELS:
            raise SettingsError(f"{says} {given.channels} channels: {_INSTEAD}")
        if given.size not in _SIZES[given.encoding]:
            raise SettingsError(f"{says} {8 * given.size} bits a sample: {_INSTEAD}")
        if self._channel > given.channels:
            raise SettingsError(
                f"{says} {given.channels} channels: set edge.channel, which is {self._channel}, to one of them"
            )
        return given


def samples(content: bytes, given: Format, channel: int = 1) -> Block:
    """One channel, from 1, of whole samples of all channels; int16, finer resolution is cut off."""
    rows = np.frombuffer(content, np.uint8).reshape(-1, given.channels, given.size)
    one = np.ascontiguousarray(rows[:, channel - 1])
    match given.encoding:
        case "unsigned":
            return (one[:, 0].astype(np.int16) - 128) * 256
        case "signed" if given.size == 1:
            return one[:, 0].view(np.int8).astype(np.int16) * 256
        case "signed":
            high = one[:, -2:] if given.order == "<" else one[:, :2]
            return np.ascontiguousarray(high).view(f"{given.order}i2")[:, 0].astype(np.int16)
        case "float":
            told = np.nan_to_num(
                one.view(f"{given.order}f{given.size}")[:, 0].astype(np.float64), posinf=1.0, neginf=-1.0
            )
            return np.clip(np.rint(told * 32768.0), -32768, 32767).astype(np.int16)
    return _law(given.encoding)[one[:, 0]]


@cache
def _law(name: str) -> Block:
    """The value of each byte, by ITU-T G.711: int16 (256,)."""
    if name == "mu-law":
        told = np.arange(256) ^ 0xFF
        steps = ((((told & 0x0F) << 3) + 0x84) << ((told >> 4) & 7)) - 0x84
        return np.where(told & 0x80, -steps, steps).astype(np.int16)
    told = np.arange(256) ^ 0x55
    exponent, mantissa = (told >> 4) & 7, (told & 0x0F) << 4
    steps = np.where(exponent > 0, (mantissa + 0x108) << np.maximum(exponent - 1, 0), mantissa + 8)
    return np.where(told & 0x80, steps, -steps).astype(np.int16)


def _is_au(head: bytes) -> bool:
    """Raw samples may begin with the same four bytes, so the rest must be a header, too."""
    if len(head) < HEAD_BYTES or head[:4] not in _AUS:
        return False
    begins, _, encoding = struct.unpack_from(f"{_AUS[head[:4]]}3I", head, 4)
    return bool(24 <= begins <= 1 << 16 and 1 <= encoding <= 31)  # noqa: PLR2004 what AU headers have
