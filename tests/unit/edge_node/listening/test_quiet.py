import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pytest

from edge_node.audio.format import FRAME_SAMPLES, Frame
from edge_node.audio.soundfiles import read_wav
from edge_node.listening.audio_thread import Listener
from edge_node.listening.quiet import AT_ONCE, QUIET_FRAMES, Quiet
from edge_node.wakeword.gate import Gate, GateSettings, Trigger
from edge_node.wakeword.native import NativeDetector

CLIP = Path(__file__).parents[4] / "sarvis" / "clips" / "ssabiseu.wav"
WITHIN_S = 20.0


def noise(frames: int, level: float, seed: int = 1) -> list[Frame]:
    sound = np.random.default_rng(seed).normal(0.0, level, (frames, FRAME_SAMPLES))
    return list(np.clip(sound, -32768, 32767).astype(np.int16))


class Source:
    """Gives frame after frame, and notes how many were judged before each."""

    def __init__(self, frames: Sequence[Frame]) -> None:
        self.judged_before: list[int] = []
        self.judged = 0
        self._frames = frames

    def __iter__(self) -> Iterator[Frame]:
        for frame in self._frames:
            self.judged_before.append(self.judged)
            yield frame

    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Scores:
    """A detector that gives the same score always, and notes what it was given."""

    model = "scores"

    def __init__(self, source: Source, score: float = 0.0) -> None:
        self.given: list[Frame] = []
        self._source, self._score = source, score

    def feed(self, frame: Frame) -> float | None:
        self.given.append(frame)
        self._source.judged += 1
        return self._score


def listen(source: Source, detector: Scores | NativeDetector, gate: Gate) -> list[Trigger]:
    triggers: list[Trigger] = []
    ends: list[BaseException | None] = []
    ended = threading.Event()

    def end(error: BaseException | None) -> None:
        ends.append(error)
        ended.set()

    listener = Listener(source, detector, gate, triggers.append, end)
    listener.start()
    assert ended.wait(WITHIN_S)
    assert ends == [None]
    return triggers


@pytest.mark.parametrize("level", [0.0, 5.0, 400.0])
def test_frames_of_steady_noise_may_wait_after_two_seconds(level: float) -> None:
    quiet = Quiet()
    for frame in noise(700, 400.0):  # the room before
        quiet.may_wait(frame)
    assert all(quiet.may_wait(frame) for frame in noise(QUIET_FRAMES + 50, level)[QUIET_FRAMES:])


def test_a_louder_frame_may_not_wait_nor_may_those_of_the_two_seconds_after_it() -> None:
    quiet = Quiet()
    for frame in noise(200, 50.0):
        quiet.may_wait(frame)
    assert quiet.may_wait(noise(1, 50.0, seed=2)[0])
    assert not quiet.may_wait(noise(1, 200.0, seed=2)[0])
    after = [quiet.may_wait(frame) for frame in noise(QUIET_FRAMES + 1, 50.0, seed=3)]
    assert after == [False] * QUIET_FRAMES + [True]


def test_a_noise_that_begins_and_stays_is_quiet_some_seconds_later() -> None:
    quiet = Quiet()
    for frame in noise(125, 60.0):
        quiet.may_wait(frame)
    loud = [quiet.may_wait(frame) for frame in noise(250, 600.0)]
    assert not any(loud[:QUIET_FRAMES])
    assert all(loud[150 + QUIET_FRAMES :])


def test_quiet_frames_are_judged_together_each_once_and_in_their_order() -> None:
    frames = noise(100, 20.0)
    source = Source(frames)
    detector = Scores(source)
    listen(source, detector, Gate())
    assert all(given is frame for given, frame in zip(detector.given, frames, strict=True))
    waits = [number - judged for number, judged in enumerate(source.judged_before)]
    assert max(waits[:QUIET_FRAMES]) == 0
    assert max(waits) == AT_ONCE - 1
    assert len(set(source.judged_before[QUIET_FRAMES + 1 :])) <= len(frames) // AT_ONCE


def test_a_louder_frame_is_judged_before_the_next_one_comes() -> None:
    loud = QUIET_FRAMES + 3
    source = Source([*noise(loud, 20.0), *noise(3, 2000.0), *noise(5, 20.0)])
    listen(source, Scores(source), Gate())
    assert source.judged_before[loud] < loud  # some waited
    assert source.judged_before[loud + 1 :] == list(range(loud + 1, loud + 8))


def test_nothing_waits_while_the_score_is_high() -> None:
    source = Source(noise(60, 20.0))
    listen(source, Scores(source, 0.3), Gate(GateSettings(threshold=0.5)))
    assert source.judged_before == list(range(60))


@pytest.mark.parametrize("level", [0.0, 30.0])
def test_a_quiet_room_hears_a_word_at_the_same_frame_as_all_frames(level: float) -> None:
    word = read_wav(CLIP)
    word = np.pad(word, (0, -len(word) % FRAME_SAMPLES)).reshape(-1, FRAME_SAMPLES)
    frames = [*noise(77, level), *word, *noise(60, level, seed=2), *word, *noise(40, level, seed=3)]
    detector = NativeDetector()
    gate = Gate(detector.advice.gate())
    by_frame = [gate.feed(detector.feed(frame), number * 0.08) for number, frame in enumerate(frames, 1)]
    expected = [trigger for trigger in by_frame if trigger is not None]
    detector = NativeDetector()
    found = listen(Source(frames), detector, Gate(detector.advice.gate()))
    assert len(expected) == 2
    assert [(round(one.at_s, 6), one.score) for one in found] == [(round(one.at_s, 6), one.score) for one in expected]
