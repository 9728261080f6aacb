"""A microphone through PortAudio, at its own rate and on one of its channels."""

import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from contract.errors import StartError
from edge_node.audio.capture import Recorder
from edge_node.audio.ring import Ring

BLOCK_S = 0.02

_COMMON_RATES_HZ = (8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 88_200, 96_000, 192_000)


@dataclass(frozen=True, slots=True)
class MicrophoneOptions:
    """How to record.

    Attributes:
    device: number or part of a name; None is the system's default.
    rate_hz: None for the device's preferred rate.
    channel: the channel of the device, from 1.
    """

    device: str | None = None
    rate_hz: int | None = None
    channel: int = 1


class PortAudioRecorder:
    """A `Recorder` on an open stream of sounddevice."""

    def __init__(self, stream: Any, rate_hz: int) -> None:
        self.rate_hz = rate_hz
        self._stream = stream

    def alive(self) -> bool:
        """See `Recorder`."""
        return bool(self._stream.active)

    def close(self) -> None:
        """See `Recorder`."""
        self._stream.close()


class SampleClock:
    """Computes from the times of blocks how many samples were lost."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._next_s: float | None = None

    def missing(self, begins_s: float, count: int) -> int:
        """The samples missing before a block of `count` that was recorded at `begins_s` on the device's clock."""
        expected_s, self._next_s = self._next_s, begins_s + count / self._rate_hz
        if expected_s is None:
            return 0
        return max(0, round((begins_s - expected_s) * self._rate_hz))


def open_microphone(options: MicrophoneOptions, ring: Ring) -> Recorder:
    """Record from a device into a ring; raises StartError with the alternatives if that is impossible."""
    sounddevice = _load_sounddevice()
    # PortAudio lists devices when it is initialised: without this, a device plugged in later would be missing.
    sounddevice._terminate()  # noqa: SLF001 the documented way
    sounddevice._initialize()  # noqa: SLF001
    name = int(options.device) if options.device and options.device.isdecimal() else options.device
    try:
        found = sounddevice.query_devices(name, "input")
    except (sounddevice.PortAudioError, ValueError) as error:
        raise StartError(_no_microphone(sounddevice, options.device, error)) from error
    rate_hz = options.rate_hz or round(found["default_samplerate"])
    _refuse_channel(options, found)
    _refuse_rate(sounddevice, name, options, rate_hz, found["name"])
    clock = SampleClock(rate_hz)

    def enqueue(samples: npt.NDArray[np.int16], count: int, time: Any, status: Any) -> None:
        missing = clock.missing(time.inputBufferAdcTime, count)
        # Clocks of sound systems jitter: the computed loss counts only if the system reports one.
        gap = bool(status.input_overflow)
        ring.put(samples[:, options.channel - 1].copy(), lost=missing if gap else 0, gap=gap)

    try:
        stream = sounddevice.InputStream(
            samplerate=rate_hz,
            blocksize=round(rate_hz * BLOCK_S),
            device=name,
            channels=options.channel,
            dtype="int16",
            callback=enqueue,
        )
        stream.start()
    except sounddevice.PortAudioError as error:
        raise StartError(_no_microphone(sounddevice, options.device, error)) from error
    return PortAudioRecorder(stream, rate_hz)


def inputs() -> list[dict[str, Any]]:
    """Recording devices, as PortAudio describes them now; StartError without PortAudio."""
    sounddevice = _load_sounddevice()
    sounddevice._terminate()  # noqa: SLF001 see above
    sounddevice._initialize()  # noqa: SLF001
    return _inputs(sounddevice)


def rates(device: int | str | None, channels: int = 1) -> list[int]:
    """The common sample rates at which a device can record."""
    return _rates(_load_sounddevice(), device, channels)


def _inputs(sounddevice: ModuleType) -> list[dict[str, Any]]:
    return [dict(info) for info in sounddevice.query_devices() if info["max_input_channels"]]


def _rates(sounddevice: ModuleType, device: int | str | None, channels: int) -> list[int]:
    return [rate_hz for rate_hz in _COMMON_RATES_HZ if _can(sounddevice, device, channels, rate_hz) is None]


def _can(sounddevice: ModuleType, device: int | str | None, channels: int, rate_hz: int) -> Exception | None:
    try:
        sounddevice.check_input_settings(device, channels=channels, dtype="int16", samplerate=rate_hz)
    except (sounddevice.PortAudioError, ValueError) as error:
        refused: Exception = error
        return refused
    return None


def _refuse_channel(options: MicrophoneOptions, found: dict[str, Any]) -> None:
    has = found["max_input_channels"]
    if options.channel > has:
        raise StartError(
            f"The microphone {found['name']} has no channel {options.channel}: set edge.channel to one of 1 to {has}"
        )


def _refuse_rate(
    sounddevice: ModuleType, device: int | str | None, options: MicrophoneOptions, rate_hz: int, name: str
) -> None:
    if options.rate_hz is None or _can(sounddevice, device, options.channel, rate_hz) is None:
        return
    able = ", ".join(map(str, _rates(sounddevice, device, options.channel))) or "none that is usual"
    raise StartError(
        f"The microphone {name} cannot record at {rate_hz} Hz: set edge.rate_hz to one of {able}, or remove it"
    )


def _load_sounddevice() -> ModuleType:
    """Imported only here: it fails on a machine without PortAudio, where the other sources must work."""
    try:
        return importlib.import_module("sounddevice")
    except ModuleNotFoundError as error:
        raise StartError("A microphone needs sounddevice: pip install 'sarvis[edge]'") from error
    except OSError as error:
        raise StartError("A microphone needs PortAudio: sudo apt install libportaudio2") from error


def _no_microphone(sounddevice: ModuleType, device: str | None, error: Exception) -> str:
    known = [f"{info['index']}: {info['name']}" for info in _inputs(sounddevice)]
    if not known:
        advice = (
            "there is no input device; plug one in, or install libasound2-plugins where PulseAudio or PipeWire runs"
        )
    else:
        advice = "choose one with mic:NUMBER or mic:NAME: " + ", ".join(known)
    return f"The microphone {device or '(default)'} cannot be opened ({error}): {advice}"
