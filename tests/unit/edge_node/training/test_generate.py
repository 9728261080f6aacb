import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from contract.errors import SettingsError
from edge_node.audio.format import SAMPLE_RATE_HZ
from edge_node.training import generate as module
from edge_node.training.engines.seam import CannotSayError, Line, Sound, Speak
from edge_node.training.generate import clip_path, generate
from edge_node.training.plan import Clip
from edge_node.training.voices import Engine
from tests.support.programs import needs

# The processes that speak are forked from one that may have run JAX; they run none.
pytestmark = [pytest.mark.filterwarnings("ignore:.*fork"), pytest.mark.slow]


def clip(say: str, voice: str = "ko") -> Clip:
    name = hashlib.sha256(f"{voice} {say}".encode()).hexdigest()[:16]
    return Clip(name, "espeak", "train", "word", "싸비스", "word", Line(voice, say))


def tone(seconds: float, peak: float = 0.3) -> Sound:
    return np.asarray(peak * np.sin(np.arange(round(seconds * SAMPLE_RATE_HZ)) * 0.3), np.float32)


class Studio:
    """A cache, and a fake engine that all forked processes share."""

    def __init__(self, folder: Path) -> None:
        self.cache = folder / "cache"
        self._folder = folder
        self._log = folder / "said.txt"

    def speaker(self, engine: Engine, voices: Path) -> Speak:
        assert (engine, voices) == ("espeak", self._folder)
        return self._speak

    def _speak(self, line: Line) -> Sound:
        with self._log.open("a", encoding="utf-8") as log:
            log.write(f"{line.say}\n")
        what, _, detail = line.say.partition(" ")
        if what == "cannot":
            raise CannotSayError("no such sound")
        if what == "no-engine":
            raise SettingsError("espeak-ng is not installed")
        if what == "silence":
            return np.zeros(SAMPLE_RATE_HZ, np.float32)
        if what == "short":
            return tone(0.05)
        if what == "padded":
            pause = np.zeros(SAMPLE_RATE_HZ, np.float32)
            return np.concatenate([pause, tone(0.5), pause])
        return tone(0.2, float(detail or 0.3))

    def said(self) -> Counter[str]:
        """How often the engine was asked for what."""
        return Counter(self._log.read_text(encoding="utf-8").splitlines() if self._log.exists() else ())

    def make(self, clips: list[Clip], workers: int = 1) -> list[Clip]:
        return generate(clips, self.cache, self._folder, workers)

    def files(self) -> list[Path]:
        return [path for path in self.cache.rglob("*") if path.is_file()]


@pytest.fixture
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Studio:
    made = Studio(tmp_path)
    monkeypatch.setattr(module, "_speaker", made.speaker)
    return made


def test_clips_are_16_khz_mono_flac_of_one_peak(studio: Studio) -> None:
    clips = [clip("tone 0.01"), clip("tone 0.3"), clip("tone 3.0")]
    assert studio.make(clips) == clips
    for one in clips:
        info = soundfile.info(clip_path(studio.cache, one))
        assert (info.samplerate, info.channels, info.format) == (16_000, 1, "FLAC")
        samples, _ = soundfile.read(clip_path(studio.cache, one))
        assert float(np.abs(samples).max()) == pytest.approx(0.7, abs=1e-3)


def test_silence_around_a_clip_is_cut_off(studio: Studio) -> None:
    studio.make([clip("padded")])
    assert soundfile.info(clip_path(studio.cache, clip("padded"))).duration == pytest.approx(0.5, abs=0.03)


def test_many_clips_come_back_in_the_order_of_the_plan_and_leave_no_half_files(studio: Studio) -> None:
    clips = [clip(f"tone {number / 100}") for number in range(1, 41)]
    assert studio.make(clips, workers=2) == clips
    assert studio.said() == Counter(one.line.say for one in clips)
    assert sorted(studio.files()) == sorted(clip_path(studio.cache, one) for one in clips)


def test_what_exists_is_not_made_again(studio: Studio) -> None:
    clips = [clip("tone 0.1"), clip("tone 0.2")]
    assert studio.make(clips) == studio.make(clips) == clips
    assert studio.said() == Counter({"tone 0.1": 1, "tone 0.2": 1})


def test_only_what_is_missing_is_made(studio: Studio) -> None:
    clips = [clip("tone 0.1"), clip("tone 0.2")]
    studio.make(clips)
    clip_path(studio.cache, clips[0]).unlink()
    assert studio.make([*clips, clip("tone 0.4")]) == [*clips, clip("tone 0.4")]
    assert studio.said() == Counter({"tone 0.1": 2, "tone 0.2": 1, "tone 0.4": 1})


@pytest.mark.parametrize("say", ["cannot", "short", "silence"])
def test_what_a_voice_cannot_say_is_left_out_and_not_tried_again(studio: Studio, say: str) -> None:
    clips = [clip("tone 0.1"), clip(say), clip("tone 0.2")]
    wanted = [clips[0], clips[2]]
    assert studio.make(clips) == wanted
    assert studio.make(clips) == wanted
    assert studio.said()[say] == 1
    assert not clip_path(studio.cache, clip(say)).exists()


def test_the_marker_tells_why_a_clip_is_left_out(studio: Studio) -> None:
    studio.make([clip("cannot"), clip("short")])
    texts = {path.stem: path.read_text(encoding="utf-8") for path in studio.files()}
    assert texts[clip("cannot").name] == "no such sound"
    assert "said nothing" in texts[clip("short").name]
    assert "short" in texts[clip("short").name]


def test_an_engine_that_is_not_installed_is_an_error_and_is_asked_again(studio: Studio) -> None:
    for _ in range(2):
        with pytest.raises(SettingsError, match="espeak-ng is not installed"):
            studio.make([clip("no-engine")])
    assert studio.said() == Counter({"no-engine": 2})
    assert studio.files() == []


def test_nothing_to_say_needs_no_engine(studio: Studio) -> None:
    assert studio.make([]) == []
    assert studio.said() == Counter()


@needs("espeak-ng")
def test_espeak_itself_says_the_word(tmp_path: Path) -> None:
    word, unable = clip("싸비스"), clip("싸비스", "nobody")
    assert generate([word, unable], tmp_path, tmp_path, 1) == [word]
    assert 0.3 < soundfile.info(clip_path(tmp_path, word)).duration < 1.5
