"""The states of an app's connection, and their transitions. Decides, sends nothing itself.

Whether the app's input is read is a separate matter, and possible in nearly every state: a request can wait for the
ledger while its connection ends.
"""

from enum import Enum, auto
from types import MappingProxyType


class State(Enum):
    """The state of a connection."""

    GREETING = auto()
    """The ledger is recording the app; the handshake is not answered, so no frame may be sent."""
    OPEN = auto()
    """The app is in the hub, its frames are carried out. The only state in which frames are sent to it."""
    ENDED_BY_APP = auto()
    """The app has sent a close frame or broken the protocol; its earlier requests are carried out. Still in the hub."""
    CLOSING = auto()
    """The bridge has sent a close frame and expects the answer; further input is ignored. Not in the hub."""
    FAILED = auto()
    """The bridge has ended it and reads nothing more. In the hub until the socket is closed."""
    CLOSED = auto()
    """The socket is closed. Earlier requests of the app are carried out."""


class Input(Enum):
    """The state of the app's input: flow control."""

    TAKEN = auto()
    """Bytes are parsed as frames."""
    HELD = auto()
    """Bytes wait until the ledger has answered."""
    PAUSED = auto()
    """Too many bytes wait: the socket is not read."""


TRANSITIONS = MappingProxyType(
    {
        State.GREETING: frozenset({State.OPEN, State.CLOSING, State.CLOSED}),
        State.OPEN: frozenset({State.ENDED_BY_APP, State.CLOSING, State.FAILED, State.CLOSED}),
        State.ENDED_BY_APP: frozenset({State.FAILED, State.CLOSED}),
        State.CLOSING: frozenset({State.CLOSED}),
        State.FAILED: frozenset({State.CLOSED}),
        State.CLOSED: frozenset[State](),
    }
)
"""A connection ends in one way and only once: no transition leads back, or from one kind of end to another."""

IN_HUB = frozenset({State.OPEN, State.ENDED_BY_APP, State.FAILED})


def following(state: State, wanted: State) -> State:
    """`wanted` if the transition exists, else `state`: a connection that is ending keeps its kind of end."""
    return wanted if wanted in TRANSITIONS[state] else state
