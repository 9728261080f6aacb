import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pytest

from edge_node.audio.format import FRAME_SAMPLES, Frame
from edge_node.audio.resampling import Framer
from edge_node.audio.sources import AudioSource, SourceOptions, open_source
from edge_node.listening.audio_thread import Listener
from edge_node.wakeword.detector import Detector
from edge_node.wakeword.gate import Gate, Trigger
from edge_node.wakeword.native import NativeDetector

CLIP = Path(__file__).parents[4] / "sarvis" / "clips" / "ssabiseu.wav"
TIMEOUT_S = 20.0


class Frames:
    """A source that ends, or blocks until it is closed."""

    def __init__(self, count: int, *, blocks: bool = False) -> None:
        self.closed = threading.Event()
        self._count = count
        self._blocks = blocks

    def __iter__(self) -> Iterator[Frame]:
        yield from np.zeros((self._count, FRAME_SAMPLES), np.int16)
        if self._blocks:
            self.closed.wait(TIMEOUT_S)

    def close(self) -> None:
        self.closed.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Script:
    """A detector that says what it is told; an exception in the script is raised."""

    model = "script"

    def __init__(self, scores: Iterable[float | BaseException | None]) -> None:
        self._scores = iter(scores)

    def feed(self, frame: Frame) -> float | None:
        assert frame.shape == (FRAME_SAMPLES,)
        score = next(self._scores)
        if isinstance(score, BaseException):
            raise score
        return score


class Heard:
    """A listener and what it reported."""

    def __init__(self, source: AudioSource, detector: Detector) -> None:
        self.triggers: list[Trigger] = []
        self.ends: list[BaseException | None] = []
        self.ended = threading.Event()
        self.listener = Listener(source, detector, Gate(), self.triggers.append, self._end)

    def run(self) -> Self:
        self.listener.start()
        assert self.ended.wait(TIMEOUT_S)
        self.listener.stop()
        return self

    def _end(self, error: BaseException | None) -> None:
        self.ends.append(error)
        self.ended.set()


def test_a_source_that_ends_is_a_normal_end() -> None:
    heard = Heard(Frames(3), Script([None, 0.1, 0.2])).run()
    assert heard.ends == [None]
    assert heard.triggers == []


def test_it_counts_frames_and_those_that_got_a_score() -> None:
    listener = Heard(Frames(5), Script([None, None, 0.1, None, 0.0])).run().listener
    assert (listener.frames, listener.scored) == (5, 2)


def test_a_trigger_carries_the_time_of_the_audio_clock() -> None:
    heard = Heard(Frames(4), Script([None, 0.1, 0.98, 0.99])).run()
    assert heard.triggers == [Trigger(at_s=0.32, score=0.99)]


@pytest.mark.parametrize("error", [RuntimeError("engine"), SystemExit(1)], ids=["exception", "exit"])
def test_whatever_ends_the_detector_is_reported_and_the_source_closed(error: BaseException) -> None:
    source = Frames(3)
    heard = Heard(source, Script([0.1, error])).run()
    assert heard.ends == [error]
    assert source.closed.is_set()


def test_an_error_of_the_trigger_callback_is_reported_as_well() -> None:
    ends: list[BaseException | None] = []
    ended = threading.Event()
    error = ValueError("callback")

    def on_trigger(_trigger: Trigger) -> None:
        raise error

    def on_end(caught: BaseException | None) -> None:
        ends.append(caught)
        ended.set()

    Listener(Frames(2), Script([1.0, 1.0]), Gate(), on_trigger, on_end).start()
    assert ended.wait(TIMEOUT_S)
    assert ends == [error]


def test_stop_ends_a_source_that_waits_and_returns_after_the_end_was_reported() -> None:
    heard = Heard(Frames(1, blocks=True), Script([0.1]))
    heard.listener.start()
    heard.listener.stop()
    heard.listener.stop()
    assert heard.ends == [None]


def test_stop_without_start_closes_the_source() -> None:
    source = Frames(1)
    Heard(source, Script([])).listener.stop()
    assert source.closed.is_set()


def test_a_trigger_may_stop_its_own_listener() -> None:
    ended = threading.Event()
    source = Frames(2, blocks=True)
    listener = Listener(
        source, Script([1.0, 1.0]), Gate(), lambda _trigger: listener.stop(), lambda _error: ended.set()
    )
    listener.start()
    assert ended.wait(TIMEOUT_S)


def test_a_recording_fires_at_the_same_time_in_each_run() -> None:
    runs = [
        Heard(open_source(f"wav:{CLIP}", SourceOptions(pace=False)), NativeDetector()).run().triggers for _ in range(2)
    ]
    assert len(runs[0]) == 1
    assert runs[0] == runs[1]


def test_half_a_minute_of_nothing_but_zeros_is_reported_once_and_so_is_its_end() -> None:
    hiss = np.ones(FRAME_SAMPLES, np.int16)
    zeros = np.zeros(FRAME_SAMPLES, np.int16)
    told: list[tuple[int, bool]] = []
    ended = threading.Event()
    frames = [hiss, *[zeros] * 374, hiss, *[zeros] * 500, hiss, hiss]
    source = Frames(0)
    source.__class__ = type("Given", (Frames,), {"__iter__": lambda _: iter(frames)})
    listener = Listener(
        source,
        Script([None] * len(frames)),
        Gate(),
        lambda _: None,
        lambda _: ended.set(),
        lambda silent: told.append((listener.frames, silent)),
    )
    listener.start()
    assert ended.wait(TIMEOUT_S)
    assert told == [(1 + 374 + 1 + 375, True), (1 + 374 + 1 + 501, False)]


@pytest.mark.parametrize("rate_hz", [16_000, 44_100, 48_000])
def test_a_muted_microphone_at_any_rate_is_noticed(rate_hz: int) -> None:
    seconds = np.zeros(31 * rate_hz, np.int16)
    framer = Framer(rate_hz)
    frames = [frame for at in range(0, len(seconds), 960) for frame in framer.feed(seconds[at : at + 960])]
    told: list[bool] = []
    ended = threading.Event()
    source = Frames(0)
    source.__class__ = type("Given", (Frames,), {"__iter__": lambda _: iter(frames)})
    script = Script([None] * len(frames))
    Listener(source, script, Gate(), lambda _: None, lambda _: ended.set(), told.append).start()
    assert ended.wait(TIMEOUT_S)
    assert told == [True]


def test_a_muted_listener_gives_its_detector_nothing_but_silence() -> None:
    heard: list[bool] = []

    class Recording(Script):
        def feed(self, frame: Frame) -> float | None:
            heard.append(bool(frame.any()))
            return super().feed(frame)

    class Loud(Frames):
        def __iter__(self) -> Iterator[Frame]:
            yield from np.ones((4, FRAME_SAMPLES), np.int16)

    ear = Heard(Loud(4), Recording([0.0] * 4))
    ear.listener.muted = True
    assert ear.run().listener.frames == 4
    assert heard == [False] * 4


def test_observers_get_the_detectors_frame_after_the_trigger() -> None:
    told: list[object] = []
    ended = threading.Event()
    listener = Listener(
        Frames(3),
        Script([None, 0.9, 0.9]),
        Gate(),
        told.append,
        lambda _: ended.set(),
        on_frame=lambda frame, score, trigger: told.append((len(frame), score, trigger is not None)),
    )
    listener.start()
    assert ended.wait(TIMEOUT_S)
    listener.stop()
    assert [entry if isinstance(entry, tuple) else "trigger" for entry in told] == [
        (FRAME_SAMPLES, None, False),
        (FRAME_SAMPLES, 0.9, False),
        "trigger",
        (FRAME_SAMPLES, 0.9, True),
    ]


def test_while_muted_observers_get_silence() -> None:
    seen: list[Frame] = []
    ended = threading.Event()
    source = open_source(f"wav:{CLIP}", SourceOptions(pace=False, lead_in_s=0.0))
    listener = Listener(
        source,
        NativeDetector(),
        Gate(),
        lambda _: None,
        lambda _: ended.set(),
        on_frame=lambda frame, _score, _trigger: seen.append(frame),
    )
    listener.muted = True
    listener.start()
    assert ended.wait(TIMEOUT_S)
    listener.stop()
    assert len(seen) > 10
    assert not np.concatenate(seen).any()


def test_what_is_called_happens_between_two_frames_in_the_thread_that_listens() -> None:
    ended = threading.Event()
    happened: list[str] = []
    listener = Listener(Frames(2), Script([None, None]), Gate(), lambda _: None, lambda _: ended.set())
    listener.call(lambda: happened.append(threading.current_thread().name))
    listener.start()
    assert ended.wait(TIMEOUT_S)
    listener.stop()
    assert happened == ["listener"]
