"""The interface of one app's WebSocket, for both ways of serving it."""

from typing import Protocol

from bridge.apps.protocol import Frames
from bridge.auth.principals import Principal
from contract.app_socket import CloseCode, Mode

MAX_UNSENT_BYTES = 64 * 1024
"""Bytes that one socket may leave unread."""

CLOSE_TIMEOUT_S = 5.0
"""How long a peer has to read and answer a close frame."""


class AppConnection(Protocol):
    """Accepts frames without ever waiting for the peer. Compared by identity."""

    uid: str
    mode: Mode
    principal: Principal
    frames: Frames
    misunderstood: bool
    """The app sent an invalid message, and the log has a line about it."""
    address: str
    """Of its client."""
    label: str
    """The name by which stories call it: the app's `client`, or one that the bridge gave it."""
    ended: int
    """The close code of its end, by whichever side; 0 while it is open, 1006 if no close frame came."""

    def send(self, frame: str) -> bool:
        """Queue a frame; False if the socket is closing. A socket that reads too slowly is closed with 4001."""
        ...

    @property
    def has_room(self) -> bool:
        """Whether less than half of the buffer is used."""
        ...

    def close(self, code: CloseCode, text: str, retry_ms: int | None = None) -> None:
        """Close after the queued frames; the first reason given stays.

        `retry_ms`: how long the app waits at least before it reconnects.
        """
        ...
