"""A detector that another one can take over from, without a moment in which none hears."""

from collections.abc import Callable

from edge_node.audio.format import Frame
from edge_node.wakeword.detector import Detector


class Handover:
    """Both detectors hear every frame until the new one has scores; all of it in the thread that feeds.

    Attributes:
        model: see Detector.
    """

    def __init__(self, detector: Detector) -> None:
        self.model = detector.model
        self._now = detector
        self._next: Detector | None = None
        self._taken: Callable[[], None] = lambda: None

    def feed(self, frame: Frame) -> float | None:
        """See Detector."""
        if self._next is not None:
            score = self._next.feed(frame)
            if score is not None:
                self._now, self._next = self._next, None
                self.model = self._now.model
                self._taken()
                return score
        return self._now.feed(frame)

    def begin(self, detector: Detector, taken: Callable[[], None]) -> None:
        """Let another detector take over as soon as it has scores; then call `taken`, before its first score counts."""
        self._next, self._taken = detector, taken

    def abandon(self, detector: Detector) -> bool:
        """Let this detector no longer take over; False if it has."""
        if self._next is detector:
            self._next = None
        return self._now is not detector
