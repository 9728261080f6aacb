"""Decides which frames may wait: those of a room that has been quiet for longer than the engine looks back. No I/O.

After each pause of 80 ms the engine's weights must come back into the processor's cache, which costs as much again as
a frame itself. So quiet frames are judged several together. None is left out, and the first louder one lets all go on,
so a word is recognised at the same moment, and the same sound gives the same scores.
"""

from edge_node.audio.format import Frame

AT_ONCE = 6
"""At most this number of quiet frames is judged together: 0.48 s, the longest that one waits."""
QUIET_FRAMES = 25
"""2 s: the engine's score is about no longer time."""

_HUSH = 64
"""The peak of a frame, of 32768, below which it is quiet in every room."""
_ABOVE_FLOOR = 2.0
"""A frame of steady noise has at most this multiple of the peak of the quietest frame."""
_RISE = 1.02
"""By so much the quietest is forgotten with each frame: a noise ten times as loud that stays is quiet after 10 s."""


class Quiet:
    """Follows the noise of a room, frame by frame."""

    def __init__(self) -> None:
        self._floor: float | None = None
        self._quiet_frames = 0

    def may_wait(self, frame: Frame) -> bool:
        """Whether the engine need not see this frame at once."""
        peak = float(max(int(frame.max()), -int(frame.min())))
        floor = peak if self._floor is None else self._floor
        quiet = peak <= max(floor * _ABOVE_FLOOR, _HUSH)
        self._floor = min(peak, floor * _RISE + 1.0)
        self._quiet_frames = self._quiet_frames + 1 if quiet else 0
        return self._quiet_frames > QUIET_FRAMES
