"""Bounds the number of connections, and chooses the one that makes room for another. No I/O; time is a parameter."""

from collections.abc import Callable

UNPROVEN_S = 2.0
"""A client that has not proven itself for this long may be asked to end when places run out."""

IDLE_S = 20.0
"""The same for an idle client: it was served and waits to send its next request."""

MOST_LEAVING = 64
"""Connections that were asked to end and are still open; above this number newcomers are refused."""

QUIET_S = 60.0


class Guest:
    """One connection that was let in.

    It is unproven until `proven`: until then it has cost its sender nothing. Only an unproven or idle connection is
    asked to end.

    Args:
        address: of the peer.
        end: asks the connection to end; `left` follows soon.
    """

    __slots__ = ("_end", "_room", "address")

    def __init__(self, room: "ConnectionLimits", address: str, end: Callable[[], None]) -> None:
        self._room = room
        self._end = end
        self.address = address

    def end(self) -> None:
        """Ask the connection to end."""
        self._end()

    def proven(self) -> None:
        """The connection sent what a client sends; a second call does nothing."""
        self._room.proven(self)

    def idles(self, now: float) -> None:
        """The connection was served and may be asked to end while it stays idle."""
        self._room.idles(self, now)

    def is_used(self) -> bool:
        """Mark the connection as no longer idle; returns whether it was idle."""
        return self._room.is_used(self)

    def left(self) -> None:
        """The connection is closed; call it once."""
        self._room.left(self)


class ConnectionLimits:
    """Bounds all connections, and the unproven ones of each address.

    Args:
        most: how many connections may be open at the same time.
        most_unproven: how many unproven ones each address may have; None: no bound of its own.
        reserve: places of `most` that only connections from this machine may use.

    Attributes:
        unreported: how many were refused or asked to end since the last `report`.
    """

    def __init__(self, most: int, *, most_unproven: int | None = None, reserve: int = 0) -> None:
        self.most = most
        self._most_unproven = most if most_unproven is None else most_unproven
        self._reserve = reserve
        self._inside: set[Guest] = set()
        self._leaving: set[Guest] = set()
        # Since when, oldest first.
        self._unproven: dict[Guest, float] = {}
        self._unproven_of: dict[str, dict[Guest, float]] = {}
        self._idle: dict[Guest, float] = {}
        self.unreported = 0
        self._quiet_until = float("-inf")

    def __len__(self) -> int:
        return len(self._inside) + len(self._leaving)

    @property
    def is_full(self) -> bool:
        """Whether only the reserved places for this machine are left."""
        return len(self) >= self.most - self._reserve

    def enter(self, address: str, end: Callable[[], None], now: float, *, is_local: bool = False) -> Guest | None:
        """Let a connection in, perhaps by asking another to end; None if the caller must close it at once."""
        mine = self._unproven_of.get(address, {})
        if len(mine) >= self._most_unproven and not self._make_room(mine, UNPROVEN_S, now):
            self.unreported += 1
            return None
        most = self.most if is_local else self.most - self._reserve
        is_full = len(self._inside) >= most
        if is_full and not (
            self._make_room(self._unproven, UNPROVEN_S, now) or self._make_room(self._idle, IDLE_S, now)
        ):
            self.unreported += 1
            return None
        guest = Guest(self, address, end)
        self._inside.add(guest)
        self._unproven[guest] = self._unproven_of.setdefault(address, {})[guest] = now
        return guest

    def proven(self, guest: Guest) -> None:
        """See `Guest.proven`."""
        if self._unproven.pop(guest, None) is not None:
            mine = self._unproven_of[guest.address]
            del mine[guest]
            if not mine:
                del self._unproven_of[guest.address]

    def idles(self, guest: Guest, now: float) -> None:
        """See `Guest.idles`."""
        if guest in self._inside:
            self._idle[guest] = now

    def is_used(self, guest: Guest) -> bool:
        """See `Guest.is_used`."""
        return self._idle.pop(guest, None) is not None

    def left(self, guest: Guest) -> None:
        """See `Guest.left`."""
        self._forget(guest)
        self._leaving.discard(guest)

    def report(self, now: float) -> int:
        """Once a minute: how many were refused or asked to end since the last report; otherwise 0."""
        if not self.unreported or now < self._quiet_until:
            return 0
        self._quiet_until = now + QUIET_S
        refused, self.unreported = self.unreported, 0
        return refused

    def _make_room(self, candidates: dict[Guest, float], patience_s: float, now: float) -> bool:
        """Ask the connection that has waited longest to end, if it has waited long enough."""
        longest = next(iter(candidates.items()), None)
        if longest is None or now - longest[1] < patience_s or len(self._leaving) >= MOST_LEAVING:
            return False
        guest = longest[0]
        self._forget(guest)
        self._leaving.add(guest)
        self.unreported += 1
        guest.end()
        return True

    def _forget(self, guest: Guest) -> None:
        self._inside.discard(guest)
        self._idle.pop(guest, None)
        self.proven(guest)
