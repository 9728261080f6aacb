import io
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import soundfile
import soxr

from contract.errors import SettingsError
from edge_node.audio import sources as audio
from edge_node.audio.format import FRAME_S, FRAME_SAMPLES, Frame
from edge_node.audio.microphone import MicrophoneOptions
from edge_node.audio.sources import AudioSource, PacedSource, Pacer, SourceOptions, open_source
from edge_node.wakeword.gate import Gate
from edge_node.wakeword.native import NativeDetector

CLIP = Path(__file__).parents[4] / "sarvis" / "clips" / "ssabiseu.wav"
UNPACED = SourceOptions(pace=False)
TIMEOUT_S = 20.0


def read(source: AudioSource) -> list[Frame]:
    with source as frames:
        return list(frames)


def ends_when_closed(source: AudioSource) -> bool:
    """Whether `close` ends an iteration that blocks in another thread."""
    thread = threading.Thread(target=lambda: list(source))
    thread.start()
    source.close()
    thread.join(TIMEOUT_S)
    return not thread.is_alive()


@pytest.mark.parametrize("spec", ["", "wav", "wav:", "stdin:x", "silence:", "mic:", "radio:3", "exec:", "exec: "])
def test_an_unknown_source_is_refused_with_a_list_of_the_known_ones(spec: str) -> None:
    with pytest.raises(SettingsError) as refused:
        open_source(spec)
    assert all(
        name in str(refused.value)
        for name in ("wav:FILE", "stdin", "silence", "mic", "mic:NAME_OR_INDEX", "exec:COMMAND")
    )


class TestWav:
    def test_16_bit_mono_at_16_khz_comes_through_bit_by_bit(self) -> None:
        samples, _ = soundfile.read(CLIP, dtype="int16")
        heard = np.concatenate(read(open_source(f"wav:{CLIP}", SourceOptions(lead_in_s=0.0, pace=False))))
        np.testing.assert_array_equal(heard[: len(samples)], samples)
        assert not heard[len(samples) :].any()

    def test_the_file_stands_between_a_lead_in_and_a_second_of_silence(self, tmp_path: Path) -> None:
        path = tmp_path / "one.wav"
        soundfile.write(path, np.full(100, 7, np.int16), 16_000)
        frames = read(open_source(f"wav:{path}", UNPACED))
        heard = np.concatenate(frames)
        assert all(frame.shape == (FRAME_SAMPLES,) and frame.dtype == np.int16 for frame in frames)
        assert np.flatnonzero(heard).tolist() == list(range(40_000, 40_100))
        assert 16_000 <= len(heard) - 40_100 < 16_000 + FRAME_SAMPLES

    def test_a_paced_file_is_followed_by_silence_for_ever(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(audio, "Pacer", lambda: None)
        with open_source(f"wav:{CLIP}") as source:
            frames = list(islice(source, 500))
        assert len(frames) == 500
        assert not np.concatenate(frames[100:]).any()

    def test_a_stereo_file_at_44100_hz_still_fires(self, tmp_path: Path) -> None:
        samples, rate = soundfile.read(CLIP, dtype="float32")
        resampled = soxr.resample(samples, rate, 44_100)
        path = tmp_path / "stereo.wav"
        soundfile.write(path, np.stack((resampled, resampled), axis=1), 44_100)
        detector = NativeDetector()
        gate = Gate(detector.advice.gate())
        frames = enumerate(read(open_source(f"wav:{path}", UNPACED)), start=1)
        triggers = [gate.feed(detector.feed(frame), number * FRAME_S) for number, frame in frames]
        assert sum(trigger is not None for trigger in triggers) == 1

    def test_channels_are_averaged(self, tmp_path: Path) -> None:
        path = tmp_path / "stereo.wav"
        soundfile.write(path, np.full((1280, 2), [1000, 3000], np.int16), 16_000)
        frames = read(open_source(f"wav:{path}", SourceOptions(lead_in_s=0.0, pace=False)))
        np.testing.assert_array_equal(frames[0], np.full(1280, 2000))

    def test_samples_beyond_full_scale_are_limited(self, tmp_path: Path) -> None:
        path = tmp_path / "loud.wav"
        soundfile.write(path, np.array([2.0, -2.0], np.float32), 16_000, subtype="FLOAT")
        frames = read(open_source(f"wav:{path}", SourceOptions(lead_in_s=0.0, pace=False)))
        assert frames[0][:2].tolist() == [32767, -32768]

    @pytest.mark.parametrize("name", ["text.wav", "text.raw"])
    def test_what_is_no_recording_is_refused_by_name(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / name
        path.write_text("no audio")
        with pytest.raises(SettingsError, match=name):
            open_source(f"wav:{path}")

    def test_a_missing_file_is_refused_by_name(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match=r"gone\.wav.*No such file"):
            open_source(f"wav:{tmp_path / 'gone.wav'}")

    @pytest.mark.parametrize("samples", [[], [float("nan")]], ids=["empty", "not a number"])
    def test_a_file_without_usable_audio_is_refused(self, tmp_path: Path, samples: list[float]) -> None:
        path = tmp_path / "odd.wav"
        soundfile.write(path, np.array(samples, np.float32), 16_000, subtype="FLOAT")
        with pytest.raises(SettingsError, match=r"odd\.wav"):
            open_source(f"wav:{path}")


class Stopwatch(threading.Event):
    """A clock that only waiting moves, each time by a little more than was asked for."""

    def __init__(self, late_s: float) -> None:
        super().__init__()
        self.now_s = 100.0
        self._late_s = late_s

    def wait(self, timeout: float | None = None) -> bool:
        self.now_s += (timeout or 0.0) + self._late_s
        return self.is_set()


class TestPacing:
    @pytest.mark.parametrize("late_s", [0.0, 0.004])
    def test_late_wake_ups_do_not_add_up(self, late_s: float) -> None:
        watch = Stopwatch(late_s)
        pacer = Pacer(lambda: watch.now_s)
        for _ in range(10_000):
            pacer.wait(watch)
        assert watch.now_s == pytest.approx(100.0 + 10_000 * FRAME_S + late_s)

    def test_a_frame_passes_when_a_microphone_would_have_recorded_it(self) -> None:
        watch = Stopwatch(0.0)
        Pacer(lambda: watch.now_s).wait(watch)
        assert watch.now_s == pytest.approx(100.0 + FRAME_S)

    def test_close_interrupts_even_a_long_wait(self) -> None:
        times = iter([1e6, 0.0])
        assert ends_when_closed(PacedSource(np.empty(0, np.int16), Pacer(lambda: next(times)), endless=True))

    def test_silence_is_zeros_until_it_is_closed(self) -> None:
        source = open_source("silence")
        frame = next(iter(source))
        assert frame.shape == (FRAME_SAMPLES,)
        assert not frame.any()
        assert ends_when_closed(source)


@pytest.fixture
def pipe() -> Iterator[tuple[BinaryIO, BinaryIO]]:
    read_fd, write_fd = os.pipe()
    with os.fdopen(read_fd, "rb") as reader, os.fdopen(write_fd, "wb", buffering=0) as writer:
        yield reader, writer


class TestStdin:
    def test_a_last_partial_frame_is_filled_up_with_silence(self, pipe: tuple[BinaryIO, BinaryIO]) -> None:
        reader, writer = pipe
        writer.write(b"\x01\x02" * FRAME_SAMPLES + b"\x03\x04\x05")
        writer.close()
        first, last = read(open_source("stdin", SourceOptions(stdin=reader)))
        np.testing.assert_array_equal(first, np.full(FRAME_SAMPLES, 0x0201))
        assert last[:2].tolist() == [0x0403, 0x0005]
        assert not last[2:].any()

    def test_a_frame_may_come_in_pieces(self, pipe: tuple[BinaryIO, BinaryIO]) -> None:
        reader, writer = pipe
        frames = iter(open_source("stdin", SourceOptions(stdin=reader)))
        pieces = [bytes(1000), bytes(1000), bytes(560)]
        thread = threading.Thread(target=lambda: [writer.write(piece) for piece in pieces])
        thread.start()
        assert next(frames).shape == (FRAME_SAMPLES,)
        thread.join()

    def test_the_end_of_the_stream_is_the_end_of_the_frames(self, pipe: tuple[BinaryIO, BinaryIO]) -> None:
        reader, writer = pipe
        writer.close()
        assert read(open_source("stdin", SourceOptions(stdin=reader))) == []

    def test_close_ends_a_read_that_waits_and_leaves_the_stream_open(self, pipe: tuple[BinaryIO, BinaryIO]) -> None:
        reader, writer = pipe
        writer.write(b"\x01\x02\x03")
        assert ends_when_closed(open_source("stdin", SourceOptions(stdin=reader)))
        assert not reader.closed

    def test_a_file_may_stand_for_the_stream(self, tmp_path: Path) -> None:
        path = tmp_path / "raw"
        path.write_bytes(bytes(3 * 2 * FRAME_SAMPLES))
        with path.open("rb") as file:
            assert len(read(open_source("stdin", SourceOptions(stdin=file)))) == 3

    @pytest.mark.parametrize(("rate_hz", "subtype"), [(48_000, "FLOAT"), (44_100, "PCM_24"), (16_000, "PCM_16")])
    def test_a_wav_file_on_standard_input_is_heard_as_its_header_says(
        self, tmp_path: Path, rate_hz: int, subtype: str
    ) -> None:
        samples, rate = soundfile.read(CLIP, dtype="float32")
        there = np.concatenate((np.zeros(rate_hz * 5 // 2, np.float32), soxr.resample(samples, rate, rate_hz)))
        path = tmp_path / "there.wav"
        soundfile.write(path, np.stack((there, 0.3 * there), axis=1), rate_hz, subtype=subtype)
        with path.open("rb") as file:
            frames = read(open_source("stdin", SourceOptions(stdin=file)))
        detector = NativeDetector()
        gate = Gate(detector.advice.gate())
        triggers = [gate.feed(detector.feed(frame), number * FRAME_S) for number, frame in enumerate(frames, start=1)]
        assert sum(trigger is not None for trigger in triggers) == 1
        assert abs(len(frames) * FRAME_S - len(there) / rate_hz) < FRAME_S + 0.001

    def test_raw_sound_at_another_rate_is_heard_when_the_settings_say_so(self, tmp_path: Path) -> None:
        path = tmp_path / "raw"
        path.write_bytes(np.full(48_000, 1000, "<i2").tobytes())
        with path.open("rb") as file:
            options = SourceOptions(stdin=file, microphone=MicrophoneOptions(rate_hz=48_000))
            heard = np.concatenate(read(open_source("stdin", options)))
        assert abs(len(heard) - 16_000) < FRAME_SAMPLES
        assert abs(int(heard[8_000]) - 1000) <= 1

    def test_what_is_no_sound_on_standard_input_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "there.ogg"
        soundfile.write(path, np.zeros(16_000), 16_000, format="OGG", subtype="VORBIS")
        with path.open("rb") as file, pytest.raises(SettingsError, match="Ogg"):
            read(open_source("stdin", SourceOptions(stdin=file)))

    def test_it_is_standard_input_unless_told_otherwise(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "raw"
        path.write_bytes(bytes(2 * FRAME_SAMPLES))
        with path.open("rb") as file:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(file))
            assert len(read(open_source("stdin"))) == 1


def test_the_other_sources_work_without_sounddevice() -> None:
    code = "import sys, edge_node.audio; sys.exit('sounddevice' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=TIMEOUT_S).returncode == 0
