"""PortAudio's side of a microphone, on a sounddevice that is not one; the real one is in tests/integration."""

import sys
from collections.abc import Callable
from itertools import islice
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from contract.errors import StartError
from edge_node.audio import microphone
from edge_node.audio.capture import Capture
from edge_node.audio.format import FRAME_SAMPLES
from edge_node.audio.microphone import MicrophoneOptions, SampleClock
from edge_node.audio.sources import SourceOptions, open_source


class FakePortAudioError(Exception):
    """What sounddevice raises for a device that is not there."""


class FakeSounddevice(SimpleNamespace):
    """sounddevice with one input at 16, 44.1 and 48 kHz, or none; devices are listed when it is initialised."""

    PortAudioError = FakePortAudioError

    def __init__(self, *, plugged: bool = True) -> None:
        super().__init__(InputStream=self._open)
        self.opened: dict[str, Any] = {}
        self.calls: list[str] = []
        self.plugged = plugged
        self._listed = plugged
        self._now_s = 1000.0

    def _terminate(self) -> None:
        self._listed = False

    def _initialize(self) -> None:
        self._listed = self.plugged

    def query_devices(self, device: str | int | None = None, kind: str | None = None) -> Any:
        desk = {"index": 4, "name": "Desk", "max_input_channels": 2, "default_samplerate": 48_000.0}
        if kind is None:
            return [desk] if self._listed else []
        if not self._listed:
            raise FakePortAudioError("Error querying device -1")
        if device not in {None, 4, "Desk"}:
            raise ValueError(f"No input device matching {device!r}")
        return desk

    def check_input_settings(self, device: str | int | None, channels: int, dtype: str, samplerate: int) -> None:
        assert (device, dtype, channels <= 2) == (None, "int16", True)
        if samplerate not in {16_000, 44_100, 48_000}:
            raise FakePortAudioError("Invalid sample rate")

    def _open(self, **options: Any) -> SimpleNamespace:
        self.opened = options
        return SimpleNamespace(
            start=lambda: self.calls.append("start"), close=lambda: self.calls.append("close"), active=True
        )

    def deliver(self, samples: np.ndarray[Any, Any], *, overflow: bool = False, late_s: float = 0.0) -> None:
        """Call back as PortAudio does, in blocks, with a buffer that is used again; (n,) or (n, channels)."""
        size = self.opened["blocksize"]
        self._now_s += late_s
        buffer = np.empty((size, self.opened["channels"]), np.int16)
        for start in range(0, len(samples), size):
            buffer[:] = samples[start : start + size].reshape(size, -1)
            time = SimpleNamespace(inputBufferAdcTime=self._now_s)
            self.opened["callback"](buffer, size, time, SimpleNamespace(input_overflow=overflow))
            self._now_s += size / self.opened["samplerate"]
            overflow = False


Plug = Callable[[FakeSounddevice], FakeSounddevice]


@pytest.fixture
def plug(monkeypatch: pytest.MonkeyPatch) -> Plug:
    def put(fake: FakeSounddevice) -> FakeSounddevice:
        monkeypatch.setitem(sys.modules, "sounddevice", fake)
        return fake

    return put


def options(**chosen: Any) -> SourceOptions:
    return SourceOptions(microphone=MicrophoneOptions(**chosen))


@pytest.mark.parametrize(("spec", "device"), [("mic", None), ("mic:4", 4), ("mic:Desk", "Desk")])
def test_it_opens_the_named_device_at_its_own_rate(plug: Plug, spec: str, device: str | int | None) -> None:
    fake = plug(FakeSounddevice())
    with open_source(spec):
        assert fake.opened["device"] == device
        assert fake.opened["samplerate"] == 48_000
        assert fake.calls == ["start"]
    assert fake.calls == ["start", "close"]


def test_it_resamples_to_16_khz(plug: Plug) -> None:
    fake = plug(FakeSounddevice())
    with open_source("mic") as source:
        tone = 10_000.0 * np.sin(2.0 * np.pi * 1000.0 * np.arange(48_000) / 48_000.0)
        fake.deliver(tone.astype(np.int16))
        frames = list(islice(source, 11))
    heard = np.concatenate(frames)[1600:]
    loudest = np.fft.rfftfreq(len(heard), 1.0 / 16_000.0)[np.abs(np.fft.rfft(heard)).argmax()]
    assert all(frame.shape == (FRAME_SAMPLES,) and frame.dtype == np.int16 for frame in frames)
    assert loudest == pytest.approx(1000.0, abs=2.0)
    assert heard.max() == pytest.approx(10_000, rel=0.02)


def test_one_channel_is_heard_and_no_other(plug: Plug) -> None:
    fake = plug(FakeSounddevice())
    with open_source("mic", options(channel=2, rate_hz=16_000)) as source:
        assert (fake.opened["channels"], fake.opened["samplerate"]) == (2, 16_000)
        fake.deliver(np.full((FRAME_SAMPLES, 2), [1000, 3000], np.int16))
        assert next(iter(source)).tolist() == [3000] * FRAME_SAMPLES


def test_a_channel_that_the_device_does_not_have_is_refused_with_those_it_has(plug: Plug) -> None:
    plug(FakeSounddevice())
    with pytest.raises(StartError, match=r"Desk.*edge\.channel.*1 to 2"):
        open_source("mic", options(channel=3))


def test_a_rate_that_the_device_cannot_do_is_refused_with_those_it_can(plug: Plug) -> None:
    plug(FakeSounddevice())
    with pytest.raises(StartError, match=r"Desk cannot record at 8000 Hz.*edge\.rate_hz.*16000, 44100, 48000"):
        open_source("mic", options(rate_hz=8_000))


def test_a_gap_that_the_sound_system_reports_is_filled_by_the_sample_clock(plug: Plug) -> None:
    fake = plug(FakeSounddevice())
    with open_source("mic", options(rate_hz=16_000)) as source:
        fake.deliver(np.full(FRAME_SAMPLES, 1, np.int16))
        fake.deliver(np.full(FRAME_SAMPLES, 2, np.int16), overflow=True, late_s=0.16)
        assert [int(frame[0]) for frame in islice(source, 4)] == [1, 0, 0, 2]
        assert isinstance(source, Capture)
        assert source.gaps == 1
        assert source.lost_s == pytest.approx(0.16)


def test_clocks_that_tremble_make_no_gap(plug: Plug) -> None:
    fake = plug(FakeSounddevice())
    with open_source("mic", options(rate_hz=16_000)) as source:
        for late_s in (0.0, 0.004, -0.004, 0.003):
            fake.deliver(np.full(FRAME_SAMPLES, 1, np.int16), late_s=late_s)
        assert [int(frame[0]) for frame in islice(source, 4)] == [1] * 4
        assert isinstance(source, Capture)
        assert (source.gaps, source.lost_s) == (0, 0.0)


def test_the_sample_clock_counts_what_is_missing_and_nothing_else() -> None:
    clock = SampleClock(16_000)
    assert [clock.missing(at, 160) for at in (5.0, 5.01, 5.03, 5.04, 5.035)] == [0, 0, 160, 0, 0]


def test_a_microphone_that_is_plugged_in_later_is_found(plug: Plug, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_node.audio.capture._RETRY_S", 0.001)
    fake = plug(FakeSounddevice())
    with open_source("mic", options(rate_hz=16_000)) as source:
        fake.plugged = False
        monkeypatch.setattr("edge_node.audio.microphone.PortAudioRecorder.alive", lambda _: fake.plugged)
        monkeypatch.setattr("edge_node.audio.capture.log", SimpleNamespace(warning=lambda *_, **__: plug_in_again()))

        def plug_in_again() -> None:
            fake.plugged = True
            monkeypatch.setattr(fake, "InputStream", open_and_speak)

        def open_and_speak(**chosen: Any) -> SimpleNamespace:
            stream = fake._open(**chosen)
            fake.deliver(np.full(FRAME_SAMPLES, 5, np.int16))
            return stream

        assert int(next(iter(source))[0]) == 5


def test_a_microphone_plugged_in_after_portaudio_listed_its_devices_is_found(plug: Plug) -> None:
    fake = plug(FakeSounddevice(plugged=False))
    fake.plugged = True
    with open_source("mic"):
        assert fake.calls == ["start"]


def test_without_an_input_device_the_message_says_what_to_do(plug: Plug) -> None:
    plug(FakeSounddevice(plugged=False))
    with pytest.raises(StartError, match="plug one in") as refused:
        open_source("mic")
    assert refused.value.exit_code == 3


def test_an_unknown_device_is_refused_with_the_devices_there_are(plug: Plug) -> None:
    plug(FakeSounddevice())
    with pytest.raises(StartError, match=r"Kitchen.*4: Desk"):
        open_source("mic:Kitchen")


def test_without_portaudio_the_message_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_name: str) -> None:
        raise OSError("PortAudio library not found")

    monkeypatch.setattr(microphone, "importlib", SimpleNamespace(import_module=fail))
    with pytest.raises(StartError, match="libportaudio2"):
        open_source("mic")


def test_without_sounddevice_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(StartError, match=r"sarvis\[edge\]"):
        open_source("mic")
