"""An `AudioSource` that survives its device: lost sound is counted, a lost device is reopened.

A recorder (a sound card, a program) has its own thread that only fills a ring; the iterating thread resamples and may
be slow. A lost recorder is opened again; if it does not come back in time, the iteration ends with an error, so that a
node without sound does not run on.
"""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import numpy as np

from contract.errors import SarvisError, StartError
from edge_node.audio.closable import Closable
from edge_node.audio.format import Frame
from edge_node.audio.resampling import Framer
from edge_node.audio.ring import Block, Piece, Ring
from infra.telemetry import get_logger

STALL_S = 5.0
RETURN_S = 30.0

_RING_S = 2.0
_LOOK_S = 0.25
_RETRY_S = 1.0
_FIRST_SOUND_S = 2.0
"""A reopened recorder gets at least this long to deliver sound, however short `return_s` is."""
_LONGEST_GAP_S = 10.0
"""A longer gap is filled with silence only up to this."""

Change: TypeAlias = Literal["lost", "back"]

log = get_logger("audio")


class MicrophoneLostError(SarvisError):
    """A microphone stopped delivering and did not come back, for example because it was unplugged."""


class Recorder(Protocol):
    """Something that records into a ring, from a thread of its own."""

    rate_hz: int
    """Rate of the samples that it puts into the ring; fixed once the first are there."""

    def alive(self) -> bool:
        """False if no more sound will come."""
        ...

    def close(self) -> None:
        """Stop and release the device; the ring receives nothing afterwards."""
        ...


Open: TypeAlias = Callable[[Ring], Recorder]
"""Starts a recorder; raises StartError if the device is unavailable now."""

Explain: TypeAlias = Callable[[Recorder], str]
"""Why a recorder delivers no sound, as far as known; raises SettingsError if it never will."""


@dataclass(frozen=True, slots=True)
class Kind:
    """The words for a recorder in messages."""

    name: str = "The microphone"
    advice: str = "is it plugged in? "
    explain: Explain = lambda _: "nothing came"


class Capture(Closable):
    """An `AudioSource` of a recorder; raises what `open_recorder` raises.

    Its iteration raises MicrophoneLostError if no sound came for `stall_s` seconds, or the recorder ended, and for
    `return_s` seconds it could not be opened again, or delivered nothing; and what `kind` raises.

    Args:
    block_s: approximate length of the pieces that the recorder puts into the ring.
    on_change: called in the iterating thread when the device is lost, and when it is back.
    """

    def __init__(
        self,
        open_recorder: Open,
        *,
        block_s: float,
        on_change: Callable[[Change], None] = lambda _: None,
        stall_s: float = STALL_S,
        return_s: float = RETURN_S,
        kind: Kind | None = None,
    ) -> None:
        super().__init__()
        self._open = open_recorder
        self._kind = kind or Kind()
        self._capacity = max(round(_RING_S / block_s), 2)
        self._on_change = on_change
        self._stall_s = stall_s
        self._return_s = return_s
        self._changing = threading.Lock()
        self._gaps = self._lost_s = 0.0
        self.returns = 0
        self._ring = Ring(self._capacity)
        self._recorder: Recorder | None = open_recorder(self._ring)
        self._rate_hz = self._recorder.rate_hz

    @property
    def gaps(self) -> int:
        """How often samples were lost, because the device or the reader was late."""
        return int(self._gaps) + self._ring.gaps

    @property
    def lost_s(self) -> float:
        """Seconds of audio that were lost in gaps and filled with silence, as far as their length is known."""
        return self._lost_s + self._ring.lost / self._rate_hz

    @property
    def waiting(self) -> float:
        """How full the ring is, from 0 to 1."""
        return len(self._ring) / self._capacity

    def __iter__(self) -> Iterator[Frame]:
        """See `AudioSource`."""
        while True:
            yield from self._frames()
            if self._closed.is_set():
                return
            until = time.monotonic() + self._return_s
            why = self._why()
            log.warning("microphone_away", why=why)
            self._on_change("lost")
            self._fetch_back(until, why)
            if self._closed.is_set():
                return
            self._on_change("back")

    def _frames(self) -> Iterator[Frame]:
        """Frames until the recorder is lost or all is closed. The resampler's state does not outlive the device."""
        framer: Framer | None = None
        while (piece := self._next()) is not None:
            if framer is None:
                with self._changing:
                    self._rate_hz = self._recorder.rate_hz if self._recorder is not None else self._rate_hz
                framer = Framer(self._rate_hz)
            yield from framer.feed(self._filled(piece))

    def _next(self) -> Piece | None:
        until = time.monotonic() + self._stall_s
        while not self._closed.is_set() and (left := until - time.monotonic()) > 0:
            piece = self._ring.get(min(left, _LOOK_S))
            if piece is not None:
                return piece
            if not self._alive():
                return None
        return None

    def _filled(self, piece: Piece) -> Block:
        missing = min(piece.lost, round(_LONGEST_GAP_S * self._rate_hz))
        return np.concatenate((np.zeros(missing, np.int16), piece.samples)) if missing else piece.samples

    def _why(self) -> str:
        with self._changing:
            return self._kind.explain(self._recorder) if self._recorder is not None else "it was closed"

    def _fetch_back(self, until: float, why: str) -> None:
        """Reopen the device and check that it delivers; raises MicrophoneLostError if it has not in time."""
        self._release()
        self._gaps += self._ring.gaps
        self._lost_s += self._ring.lost / self._rate_hz
        while not self._closed.is_set():
            self._ring = Ring(self._capacity)
            try:
                with self._changing:
                    if self._closed.is_set():
                        return
                    self._recorder = self._open(self._ring)
                if self._delivers(until):
                    self.returns += 1
                    return
                why = self._why()
                self._release()
            except StartError as error:
                why = str(error)
            if time.monotonic() >= until:
                raise MicrophoneLostError(
                    f"{self._kind.name} is gone and did not come back within {self._return_s:g} s: "
                    f"{self._kind.advice}{why}"
                )
            log.warning("microphone_away", why=why)
            self._closed.wait(_RETRY_S)

    def _delivers(self, by: float) -> bool:
        now = time.monotonic()
        until = min(now + self._stall_s, max(by, now + _FIRST_SOUND_S))
        while not self._closed.is_set() and time.monotonic() < until:
            if len(self._ring):
                return True
            if not self._alive():
                return bool(len(self._ring))
            self._closed.wait(_LOOK_S / 10)
        return self._closed.is_set()

    def _alive(self) -> bool:
        # Not while another thread closes it: PortAudio's pointer would be invalid.
        with self._changing:
            return self._recorder is not None and self._recorder.alive()

    def _release(self) -> None:
        with self._changing:
            if self._recorder is not None:
                self._recorder.close()
                self._recorder = None

    def close(self) -> None:
        """See `AudioSource`; releases the device."""
        super().close()
        self._ring.end()
        self._release()
