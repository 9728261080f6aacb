"""A microphone through PortAudio, at its own rate, resampled to 16 kHz."""

import importlib
import threading
from collections import deque
from collections.abc import Iterator
from types import ModuleType, TracebackType
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
import soxr

from contract.errors import SarvisError, StartError
from edge_node.wakeword.detector import FRAME_SAMPLES, SAMPLE_RATE_HZ, Frame

STALL_S = 5.0

Block = npt.NDArray[np.int16]
"""Mono samples at the device's rate: int16, shape (n,)."""

_BLOCK_S = 0.02
_RING_S = 2.0


class MicrophoneLostError(SarvisError):
    """An open microphone stopped delivering, for example because it was unplugged."""


class Ring:
    """A bounded queue of blocks between two threads: when it is full, the oldest is dropped and counted.

    Attributes:
        dropped: blocks lost here, plus gaps that the sound system reported.
    """

    def __init__(self, capacity: int) -> None:
        self.dropped = 0
        self._blocks: deque[Block] = deque()
        self._capacity = capacity
        self._ended = False
        self._changed = threading.Condition()

    def put(self, block: Block, *, after_gap: bool = False) -> None:
        """Append a block; never waits for the reader. `after_gap`: samples before it were lost on the way here."""
        with self._changed:
            self.dropped += after_gap
            if len(self._blocks) == self._capacity:
                self._blocks.popleft()
                self.dropped += 1
            self._blocks.append(block)
            self._changed.notify()

    def get(self, timeout_s: float) -> Block | None:
        """The oldest block; None if none came in time or the ring has ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._blocks or self._ended, timeout_s)
            return None if self._ended or not self._blocks else self._blocks.popleft()

    def end(self) -> None:
        """Let `get` return None from now on."""
        with self._changed:
            self._ended = True
            self._changed.notify()


class Stream(Protocol):
    """The part of sounddevice.InputStream that a microphone needs."""

    def close(self) -> None:
        """Stop the callbacks and release the device."""
        ...


class Microphone:
    """An `AudioSource` that reads from `ring` what the callback of `stream` puts there; owns the stream.

    Its iteration raises MicrophoneLostError when nothing came for `stall_s` seconds.
    """

    def __init__(self, stream: Stream, ring: Ring, rate_hz: int, stall_s: float = STALL_S) -> None:
        self._stream = stream
        self._ring = ring
        self._rate_hz = rate_hz
        self._stall_s = stall_s
        self._closing = threading.Lock()
        self._closed = False

    @property
    def dropped(self) -> int:
        """Blocks that were lost because nobody fetched them in time."""
        return self._ring.dropped

    def __iter__(self) -> Iterator[Frame]:
        """See `AudioSource`."""
        resampler = soxr.ResampleStream(self._rate_hz, SAMPLE_RATE_HZ, 1, dtype="int16")
        pending = np.empty(0, np.int16)
        while (block := self._ring.get(self._stall_s)) is not None:
            pending = np.concatenate((pending, resampler.resample_chunk(block)))
            while len(pending) >= FRAME_SAMPLES:
                yield pending[:FRAME_SAMPLES]
                pending = pending[FRAME_SAMPLES:]
        if not self._closed:
            raise MicrophoneLostError(
                f"The microphone delivered nothing for {self._stall_s:g} s: is it still plugged in?"
            )

    def close(self) -> None:
        """See `AudioSource`; releases the device."""
        with self._closing:
            if not self._closed:
                self._closed = True
                self._ring.end()
                self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_microphone(device: str | None = None) -> Microphone:
    """Record from a device, by number or part of its name (default: the system's); StartError if it cannot be had."""
    sounddevice = _load_sounddevice()
    ring = Ring(round(_RING_S / _BLOCK_S))

    def enqueue(samples: npt.NDArray[np.int16], _count: int, _time: Any, status: Any) -> None:
        ring.put(samples[:, 0].copy(), after_gap=status.input_overflow)

    try:
        name = int(device) if device and device.isdecimal() else device
        rate_hz = round(sounddevice.query_devices(name, "input")["default_samplerate"])
        stream = sounddevice.InputStream(
            samplerate=rate_hz,
            blocksize=round(rate_hz * _BLOCK_S),
            device=name,
            channels=1,
            dtype="int16",
            callback=enqueue,
        )
        stream.start()
    except (sounddevice.PortAudioError, ValueError) as error:
        raise StartError(_no_microphone(sounddevice, device, error)) from error
    return Microphone(stream, ring, rate_hz)


def _load_sounddevice() -> ModuleType:
    """Imported only here: it fails on a machine without PortAudio, where the other sources must work."""
    try:
        return importlib.import_module("sounddevice")
    except ModuleNotFoundError as error:
        raise StartError("A microphone needs sounddevice: pip install 'sarvis[edge]'") from error
    except OSError as error:
        raise StartError("A microphone needs PortAudio: sudo apt install libportaudio2") from error


def _no_microphone(sounddevice: ModuleType, device: str | None, error: Exception) -> str:
    inputs = [f"{info['index']}: {info['name']}" for info in sounddevice.query_devices() if info["max_input_channels"]]
    if not inputs:
        advice = (
            "there is no input device; plug one in, or install libasound2-plugins where PulseAudio or PipeWire runs"
        )
    else:
        advice = "choose one with mic:NUMBER or mic:NAME: " + ", ".join(inputs)
    return f"The microphone {device or '(default)'} cannot be opened ({error}): {advice}"
