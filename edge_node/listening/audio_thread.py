"""The audio thread: source -> detector -> gate."""

import threading
from collections import deque
from collections.abc import Callable

import numpy as np

from edge_node.audio.format import FRAME_SAMPLES, SAMPLE_RATE_HZ, Frame
from edge_node.audio.levels import dead
from edge_node.audio.sources import AudioSource
from edge_node.listening.quiet import AT_ONCE, Quiet
from edge_node.metrics import SCORES
from edge_node.wakeword.detector import Detector
from edge_node.wakeword.gate import Gate, Trigger
from edge_node.wakeword.near import NearMissCounter

SILENT_S = 30.0

Look = Callable[[Frame, float | None, Trigger | None], None]
"""Called with each frame, as the detector received it, its score and the gate's answer; must return at once."""

_SILENT_FRAMES = round(SILENT_S * SAMPLE_RATE_HZ / FRAME_SAMPLES)

_SILENCE = np.zeros(FRAME_SAMPLES, np.int16)


class Listener:
    """Listens in its own thread until the source ends, an error occurs or `stop` is called; closes the source.

    Callbacks run in that thread: `on_trigger` for each trigger; `on_silence` with True when frames have been only zeros
    (`levels.dead`) for SILENT_S, and with False when that is over; then `on_end` exactly once, with the exception that
    ended it or None. `on_frame` gets each frame after all that.

    Attributes:
    frames: frames received; those of a quiet room are judged some at a time (`quiet`).
    scored: frames that got a score; a watchdog that uses it detects a thread that runs without scoring.
    muted: while this is true, the detector gets silence.
    near: counts scores that were nearly a wake.
    """

    def __init__(
        self,
        source: AudioSource,
        detector: Detector,
        gate: Gate,
        on_trigger: Callable[[Trigger], None],
        on_end: Callable[[BaseException | None], None],
        on_silence: Callable[[bool], None] = lambda _: None,
        on_frame: Look | None = None,
    ) -> None:
        self.frames = 0
        self.scored = 0
        self.muted = False
        self.near = NearMissCounter()
        self._silent = 0
        self._quiet = Quiet()
        self._waiting: list[Frame] = []
        self._judged = 0
        self._last_score: float | None = None
        self._on_silence = on_silence
        self._on_frame = on_frame
        self._calls: deque[Callable[[], None]] = deque()
        self._source = source
        self._detector = detector
        self._gate = gate
        self._on_trigger = on_trigger
        self._on_end = on_end
        self._thread = threading.Thread(target=self._run, name="listener", daemon=True)

    def start(self) -> None:
        """Start the thread; once."""
        self._thread.start()

    def call(self, change: Callable[[], None]) -> None:
        """Run a function in the listening thread, between two frames; from any thread."""
        self._calls.append(change)

    def stop(self, timeout_s: float | None = None) -> None:
        """Close the source, wait for `on_end` to return or `timeout_s`; any number of times, also from a callback."""
        self._source.close()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)

    def _watch_silence(self, frame: Frame) -> None:
        """A working microphone always delivers at least its own noise."""
        if not dead(frame):
            if self._silent >= _SILENT_FRAMES:
                self._on_silence(False)
            self._silent = 0
        else:
            self._silent += 1
            if self._silent == _SILENT_FRAMES:
                self._on_silence(True)

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            self._listen()
        except BaseException as caught:  # noqa: BLE001 - whatever ends the audio thread, its owner must know that it is deaf
            error = caught
        self._on_end(error)

    def _listen(self) -> None:
        with self._source as frames:
            for frame in frames:
                self.frames += 1
                self._watch_silence(frame)
                heard = _SILENCE if self.muted else frame
                may_wait = self._quiet.may_wait(heard) and self._is_sure()
                self._waiting.append(heard)
                if self._calls or not may_wait or len(self._waiting) == AT_ONCE:
                    self._judge_all()
        self._judge_all()

    def _is_sure(self) -> bool:
        """Whether the last frame was far from a wake word."""
        return self._last_score is not None and self._last_score < self._gate.settings.threshold / 2.0

    def _judge_all(self) -> None:
        """Changes that are called for come after the frames that were there before them."""
        for heard in self._waiting:
            self._judge(heard)
        self._waiting.clear()
        while self._calls:
            self._calls.popleft()()

    def _judge(self, heard: Frame) -> None:
        self._judged += 1
        score = self._last_score = self._detector.feed(heard)
        if score is not None:
            self.scored += 1
            SCORES.observe(score)
        trigger = self._gate.feed(score, self._judged * FRAME_SAMPLES / SAMPLE_RATE_HZ)
        self.near.feed(score, self._gate.settings.threshold, fired=trigger is not None)
        if trigger is not None:
            self._on_trigger(trigger)
        if self._on_frame is not None:
            self._on_frame(heard, score, trigger)
