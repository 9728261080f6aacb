"""One app's WebSocket as the rest of the bridge sees it, whichever way it is served."""

from typing import Protocol

from bridge.app_protocol import CloseCode, Frames, Mode
from bridge.auth.principals import Principal

MAX_UNSENT_BYTES = 64 * 1024
"""What one socket may leave unread."""

CLOSE_TIMEOUT_S = 5.0
"""So long a peer has to read and to answer a close frame."""


class AppConnection(Protocol):
    """Takes frames without ever waiting for the peer. Known by identity."""

    uid: str
    mode: Mode
    principal: Principal
    frames: Frames
    misunderstood: bool
    """Something that it sent was not understood, and the log tells so."""

    def send(self, frame: str) -> bool:
        """Queue a frame; False when the socket is closing. One that reads too slowly is closed with 4001."""
        ...

    @property
    def has_room(self) -> bool:
        """Less than half of what may be unsent is."""
        ...

    def close(self, code: CloseCode, text: str) -> None:
        """Close after what is queued; the first reason given stays."""
        ...
