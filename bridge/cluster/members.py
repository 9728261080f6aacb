"""The bridges of one ledger, as an operator sees them. No I/O."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from bridge.cluster.peers import AROUND_S, SEEN_WITHIN_S
from bridge.storage.records import BridgeRow

MemberState = Literal["here", "works", "leaves", "deaf_bridge", "silent"]


@dataclass(frozen=True, slots=True)
class Member:
    """One bridge.

    Attributes:
        state: here: the bridge that is asked; deaf_bridge: it does not reach the broker; silent: it has not written its
            row for 3 s, and may still have sockets.
        sockets: of apps; None if that is not known.
    """

    instance: str
    state: MemberState
    version: str
    address: str
    sockets: int | None


def members(me: str, sockets: int, rows: Iterable[BridgeRow], seconds: float) -> list[Member]:
    """Those that may have sockets at this service time, by name; `sockets`: of this bridge, at this moment."""
    found = []
    for row in rows:
        if row.instance == me:
            found.append(Member(me, "here", row.version, row.address, sockets))
        elif not row.gone and row.seen_s > seconds - AROUND_S:
            state = _state(row, seconds)
            found.append(
                Member(row.instance, state, row.version, row.address, None if state == "silent" else row.sockets)
            )
    return sorted(found, key=lambda one: one.instance)


def _state(row: BridgeRow, seconds: float) -> MemberState:
    if row.seen_s <= seconds - SEEN_WITHIN_S:
        return "silent"
    if row.draining:
        return "leaves"
    return "works" if row.hears else "deaf_bridge"


def all_sockets(found: Iterable[Member], mine: int) -> int:
    """Those of all bridges, as far as they are known; of a bridge alone `mine`."""
    known = [one.sockets or 0 for one in found]
    return sum(known) if known else mine
