"""Opens an `AudioSource`: a file, standard input, silence, a microphone or a program."""

import os
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self

import numpy as np
import numpy.typing as npt

from contract.errors import SettingsError
from edge_node.audio import microphone, program
from edge_node.audio.capture import RETURN_S, Capture, Change, Kind, Open
from edge_node.audio.closable import Closable
from edge_node.audio.format import FRAME_S, FRAME_SAMPLES, SAMPLE_RATE_HZ, Frame
from edge_node.audio.microphone import MicrophoneOptions, open_microphone
from edge_node.audio.program import ProgramRecorder
from edge_node.audio.resampling import Framer
from edge_node.audio.soundfiles import read_wav
from edge_node.audio.stream import Format, SoundStream

SOURCES = "wav:FILE, stdin, silence, mic, mic:NAME_OR_INDEX or exec:COMMAND"
SOURCE_HELP = (
    "mic, mic:NAME, exec:COMMAND, wav:FILE, stdin or silence; COMMAND and stdin give WAV or AU, or raw sound: "
    "16 bits little endian, mono, 16000 Hz (or edge.rate_hz)"
)

_CHUNK_BYTES = 2 * FRAME_SAMPLES
_TAIL_S = 1.0
_CLOSE_CHECK_S = 0.1


class AudioSource(Protocol):
    """Frames of one stream, to be iterated once, by one thread; leaving its context closes it."""

    def __iter__(self) -> Iterator[Frame]:
        """Frames as they become available; blocks in between, ends after `close`, raises if the audio is lost."""
        ...

    def close(self) -> None:
        """End the iteration promptly; from any thread, any number of times."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """Options that a source's name does not have.

    Attributes:
    lead_in_s: seconds of silence before a WAV file; an engine needs 2 s before it can score.
    pace: deliver WAV files and silence in real time, a file followed by endless silence; otherwise as fast as they are
    read, a file followed by 1 s of silence and the end.
    stdin: an open stream with a file descriptor instead of standard input.
    microphone: how a microphone records; its device comes from the source's name. For a program and standard
    input: the rate of raw sound, and the channel of sound with a header.
    return_s: how long a lost microphone or program may stay away.
    on_change: called by the iterating thread when it is lost, and when it is back.
    """

    lead_in_s: float = 2.5
    pace: bool = True
    stdin: BinaryIO | None = None
    microphone: MicrophoneOptions = field(default_factory=MicrophoneOptions)
    return_s: float = RETURN_S
    on_change: Callable[[Change], None] = lambda _: None


def open_source(spec: str, options: SourceOptions | None = None) -> AudioSource:
    """The source of that name, one of SOURCES; the caller closes it.

    `exec:COMMAND` is a program that writes sound, like `exec:arecord -q -t raw -f S16_LE -r 16000`: raw s16le mono at
    16 kHz unless a header says otherwise; the same holds for standard input.
    Raises SettingsError for an unknown name or an unusable file, StartError for an unavailable microphone or program.
    """
    options = options or SourceOptions()
    pacer = Pacer() if options.pace else None
    match spec.partition(":"):
        case "wav", ":", file if file:
            return PacedSource(_wav_with_silence(Path(file), options.lead_in_s), pacer, endless=options.pace)
        case "stdin", "", "":
            return StreamSource(options.stdin or sys.stdin.buffer, *_stream(options))
        case "silence", "", "":
            return PacedSource(np.empty(0, np.int16), pacer, endless=True)
        case "mic", "", "":
            return _microphone(options, None)
        case "mic", ":", device if device:
            return _microphone(options, device)
        case "exec", ":", command if command.strip():
            rate_hz, channel = _stream(options)
            start = partial(ProgramRecorder, command, rate_hz=rate_hz, channel=channel)
            return _capture(start, program.BLOCK_S, options, program.KIND)
    raise SettingsError(f"There is no audio source '{spec}'; use one of {SOURCES}")


def check_source(spec: str) -> None:
    """Raises SettingsError for a name that `open_source` does not know, or an unusable file; opens no device."""
    kind, colon, rest = spec.partition(":")
    if kind == "wav" and rest:
        read_wav(Path(rest))
    elif not (
        (kind == "mic" and (rest or not colon))
        or (kind == "exec" and rest.strip())
        or (kind in {"stdin", "silence"} and not colon)
    ):
        raise SettingsError(f"There is no audio source '{spec}'; use one of {SOURCES}")


def _microphone(options: SourceOptions, device: str | None) -> Capture:
    return _capture(partial(open_microphone, replace(options.microphone, device=device)), microphone.BLOCK_S, options)


def _capture(record: Open, block_s: float, options: SourceOptions, kind: Kind | None = None) -> Capture:
    return Capture(record, block_s=block_s, on_change=options.on_change, return_s=options.return_s, kind=kind)


def _stream(options: SourceOptions) -> tuple[int, int]:
    """The rate of raw sound, and the channel of sound with a header."""
    return options.microphone.rate_hz or SAMPLE_RATE_HZ, options.microphone.channel


class Pacer:
    """Lets one frame pass each 80 ms of `now`, by deadlines from its first wait, so that delays do not add up."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._start_s: float | None = None
        self._frames = 0

    def wait(self, closed: threading.Event) -> None:
        """Sleep until the next frame would have been recorded, or `closed` is set."""
        if self._start_s is None:
            self._start_s = self._now()
        self._frames += 1
        closed.wait(max(0.0, self._start_s + self._frames * FRAME_S - self._now()))


class PacedSource(Closable):
    """Samples from memory, int16 (n,), the last frame filled with silence; without a pacer as fast as possible."""

    def __init__(self, samples: npt.NDArray[np.int16], pacer: Pacer | None, *, endless: bool) -> None:
        super().__init__()
        self._samples = samples
        self._pacer = pacer
        self._endless = endless

    def __iter__(self) -> Iterator[Frame]:
        """See `AudioSource`."""
        for frame in self._frames():
            if self._pacer is not None:
                self._pacer.wait(self._closed)
            if self._closed.is_set():
                return
            yield frame

    def _frames(self) -> Iterator[Frame]:
        for start in range(0, len(self._samples), FRAME_SAMPLES):
            frame = self._samples[start : start + FRAME_SAMPLES]
            yield np.pad(frame, (0, FRAME_SAMPLES - len(frame)))
        while self._endless:
            yield np.zeros(FRAME_SAMPLES, np.int16)


class StreamSource(Closable):
    """Sound from a stream's file descriptor, at the writer's pace; leaves the stream open."""

    def __init__(self, stream: BinaryIO, rate_hz: int = SAMPLE_RATE_HZ, channel: int = 1) -> None:
        super().__init__()
        self._stream = stream
        self._rate_hz = rate_hz
        self._channel = channel

    def __iter__(self) -> Iterator[Frame]:
        """See `AudioSource`; a last partial frame is filled with silence. SettingsError if it is not sound."""
        sound = SoundStream(Format(self._rate_hz), self._channel)
        framer: Framer | None = None
        ended = False
        while not ended:
            chunk = self._read(_CHUNK_BYTES)
            ended = not chunk
            if self._closed.is_set():
                return
            samples = sound.finish(fill=True) if ended else sound.feed(chunk)
            if framer is None and sound.format is not None:
                framer = Framer(sound.format.rate_hz)
            if framer is not None:
                yield from framer.feed(samples)
        if framer is not None:
            yield from framer.finish()

    def _read(self, size: int) -> bytes:
        """At most `size` bytes; none at the end of the stream or when closed."""
        descriptor = self._stream.fileno()
        # Another thread cannot interrupt a blocked read, so check for `close` before each.
        while not self._closed.is_set():
            if select.select([descriptor], [], [], _CLOSE_CHECK_S)[0]:
                return os.read(descriptor, size)
        return b""


def _wav_with_silence(path: Path, lead_in_s: float) -> npt.NDArray[np.int16]:
    lead_in = np.zeros(round(lead_in_s * SAMPLE_RATE_HZ), np.int16)
    tail = np.zeros(round(_TAIL_S * SAMPLE_RATE_HZ), np.int16)
    return np.concatenate((lead_in, read_wav(path), tail))
