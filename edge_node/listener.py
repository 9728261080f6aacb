"""The audio thread: source -> detector -> gate."""

import threading
from collections import deque
from collections.abc import Callable

import numpy as np

from edge_node.audio import AudioSource
from edge_node.gate import Gate, Trigger
from edge_node.levels import dead
from edge_node.metrics import SCORES
from edge_node.wakeword.detector import FRAME_SAMPLES, SAMPLE_RATE_HZ, Detector, Frame

SILENT_S = 30.0

Look = Callable[[Frame, float | None, Trigger | None], None]
"""Is shown each frame as the detector was, with its score and what came of it; must return at once."""

_SILENT_FRAMES = round(SILENT_S * SAMPLE_RATE_HZ / FRAME_SAMPLES)

_SILENCE = np.zeros(FRAME_SAMPLES, np.int16)


class Listener:
    """Listens in its own thread until the source ends, something fails or `stop` is called; closes the source.

    Callbacks run in that thread: `on_trigger` for each trigger; `on_silence` with True when frames have been nothing
    but zeros (`levels.dead`) for SILENT_S, and with False when that is over; then `on_end` exactly once, with the
    exception that ended it or None. `on_frame` sees each frame after all that.

    Attributes:
        frames: frames heard; times 0.08 s this is the audio clock.
        scored: frames that got a score; a watchdog that feeds on this one cannot be deaf but alive.
        muted: while this is true, everything is silence to the detector.
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
        self._silent = 0
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
        """Have this done in the thread that listens, between two frames; from any thread."""
        self._calls.append(change)

    def stop(self, timeout_s: float | None = None) -> None:
        """Close the source, wait for `on_end` to return or `timeout_s`; any number of times, also from a callback."""
        self._source.close()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)

    def _watch_silence(self, frame: Frame) -> None:
        """A microphone that works always hears something, if only its own hiss."""
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
                while self._calls:
                    self._calls.popleft()()
                self.frames += 1
                self._watch_silence(frame)
                heard = _SILENCE if self.muted else frame
                score = self._detector.feed(heard)
                if score is not None:
                    self.scored += 1
                    SCORES.observe(score)
                trigger = self._gate.feed(score, self.frames * FRAME_SAMPLES / SAMPLE_RATE_HZ)
                if trigger is not None:
                    self._on_trigger(trigger)
                if self._on_frame is not None:
                    self._on_frame(heard, score, trigger)
