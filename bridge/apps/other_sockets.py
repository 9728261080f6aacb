"""Which sockets of a user give way to one that joined at another bridge. Decides, sends nothing."""

from collections.abc import Sequence
from typing import Generic, NamedTuple

from bridge.apps.hub import Connection, Eviction
from contract.messages import Joined


class Socket(NamedTuple, Generic[Connection]):
    """A socket of this bridge, with the name that its app gave, and the number of the turn that connected it."""

    connection: Connection
    client: str | None
    turn: int


def outdated(
    joined: Joined, mine: Sequence[Socket[Connection]], max_per_user: int
) -> list[tuple[Connection, Eviction]]:
    """Those of the user's sockets here, oldest first, that must close: only ones that connected earlier.

    Both bridges may hear of the other's socket in the same moment: the turns say which of the two is the newer.
    """
    older = [socket for socket in mine if socket.turn < joined.turn]
    replaced = [one for one in older if joined.client is not None and one.client == joined.client]
    others = [one for one in older if one not in replaced]
    too_many = max(0, len(mine) - len(replaced) + joined.sockets - max_per_user)
    return [
        *((one.connection, "replaced") for one in replaced),
        *((one.connection, "too_many") for one in others[:too_many]),
    ]
