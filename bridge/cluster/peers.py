"""Which bridges of one ledger are alive, and in which order they act for a name. No I/O."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from hashlib import blake2b

from bridge.storage.records import BridgeRow

SEEN_WITHIN_S = 3.0
"""A bridge that did not write its row for longer, in service time, is not counted on."""
AROUND_S = 60.0
"""For so long it may still have sockets: it may be cut off from the database alone."""


@dataclass(frozen=True, slots=True)
class Peers:
    """The bridges that are alive at one moment, seen by one of them.

    All that agree on who is alive agree on the order for each name; that they do not agree for a moment is normal, and
    nothing may be wrong because of it.

    Attributes:
    others: the instances of the others that are alive, in any order.
    acts: this bridge is alive itself; else it comes after all others for each name.
    around: another bridge is there that does not act, and may have sockets: it leaves, or it cannot reach the broker or
        the database.
    """

    me: str
    others: tuple[str, ...] = ()
    acts: bool = True
    around: bool = False

    @property
    def alone(self) -> bool:
        """Whether no other bridge can have a socket."""
        return not self.others and not self.around

    def rank(self, name: str) -> int:
        """The place of this bridge in the order for a wake or a device: 0 acts first, also if it is alone."""
        if not self.acts:
            return len(self.others)
        mine = _weight(name, self.me)
        return sum(_weight(name, other) < mine for other in self.others)


ALONE = Peers("")
"""For a bridge that shares its ledger with no other: it is the first for every name."""
NOT_SEEN = Peers("", around=True)
"""Before the first look at a ledger that bridges share."""


def live_peers(me: str, rows: Iterable[BridgeRow], seconds: float, offline: Collection[str] = ()) -> Peers:
    """The bridges that are alive at this service time.

    `offline`: instances whose last will the broker has sent since; their rows follow later.
    """
    rows = list(rows)
    alive = {row.instance for row in rows if _is_alive(row, seconds)} - set(offline)
    may_have_sockets = {row.instance for row in rows if not row.gone and row.seen_s > seconds - AROUND_S}
    return Peers(me, tuple(sorted(alive - {me})), me in alive, bool(may_have_sockets - alive - {me}))


def _is_alive(row: BridgeRow, seconds: float) -> bool:
    return row.hears and not row.draining and not row.gone and row.seen_s > seconds - SEEN_WITHIN_S


def _weight(name: str, instance: str) -> tuple[bytes, str]:
    """A name's own order of bridges: if one dies, only the names move for which it was the first."""
    return blake2b(f"{name}\0{instance}".encode(), digest_size=8).digest(), instance
