"""What apps, callers and devices of several bridges saw, and what of it must not be; never by what bridges say.

All times are wall-clock seconds of one machine.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from contract.app_socket import CloseCode
from tools.chaos.cluster.house import Hurt

GOOD = frozenset({"sent", "acked", "pushed"})
TTL_S = 10.0
"""Of each wake of the crowd."""
QUICK_S = 0.1
"""A bridge whose canaries all rang so fast was well: it heard and spoke while other bridges waited for its word."""
AROUND_S = 1.5
"""So long around a wake, and after it, the bridges must have been well to be held to their word."""
CLOSED_WITHIN_S = 1.5
CLOSED_AT_LAST_S = 30.0
BUSY_S = 1.5
"""What a busy machine may add."""
RANG_LATE_S = 1.0
UNHURT_S = 4.0
"""After a fault is over it may still delay what needs the ledger."""
MANY = 40
ENDS_SOCKETS = frozenset({"kill bridge", "drain bridge", "cut apps"})

KINDS = (
    "untrue",
    "hasty",
    "silent",
    "twice",
    "old",
    "open",
    "closed",
    "both",
    "pushed twice",
    "missed twice",
    "tardy",
    "early",
)


@dataclass
class Spell:
    """One socket: at which bridge, from when to when; `ended` None: it is open.

    Attributes:
        code: with which it was closed by the other side; None if by this one, or not at all.
    """

    uid: str
    bridge: str
    opened: float
    ended: float | None = None
    code: int | None = None

    def covers(self, since: float, until: float) -> bool:
        return self.opened <= since and (self.ended is None or self.ended >= until)


@dataclass(frozen=True)
class Rung:
    """A wake that rang a socket; one of the documented protocol does not say which."""

    wake_id: str | None
    at: float
    spell: Spell


@dataclass
class Called:
    """A wake that was published, and repeated `again` times; `outcomes` as the device heard them, with their times."""

    wake_id: str
    uid: str
    at: float
    again: int = 0
    outcomes: list[tuple[float, str]] = field(default_factory=list)
    rung: list[Rung] = field(default_factory=list)


@dataclass(frozen=True)
class Canary:
    """A wake for a user whose only socket is at one bridge; `rang` None: not at all."""

    bridge: str
    at: float
    rang: float | None


class Canaries:
    """Which bridge was well at which time, by wakes that had to ring at it."""

    def __init__(self, seen: Iterable[Canary]) -> None:
        self._of: dict[str, list[Canary]] = {}
        for one in seen:
            self._of.setdefault(one.bridge, []).append(one)

    def well(self, bridge: str, since: float, until: float) -> bool:
        """Each one that was published then rang soon, and there were some."""
        then = [one for one in self._of.get(bridge, ()) if since <= one.at <= until]
        return bool(then) and all(one.rang is not None and one.rang - one.at < QUICK_S for one in then)

    def all_well(self, bridges: Iterable[str], since: float, until: float) -> bool:
        return all(self.well(bridge, since, until) for bridge in bridges)

    def gaps(self, bridge: str) -> list[float]:
        """How long no canary rang there, each time."""
        rang = sorted(one.rang for one in self._of.get(bridge, ()) if one.rang is not None)
        return [later - earlier for earlier, later in pairwise(rang)]


def of_canaries(seen: Sequence[Canary]) -> list[str]:
    """Without canaries that rang nothing is judged: then the harness is broken, or the bridges are."""
    if len(seen) < MANY or any(one.rang is not None for one in seen):
        return []
    return [f"silent: none of the last {len(seen)} canaries rang"]


def of_wake(called: Called, spells: Sequence[Spell], canaries: Canaries, bridges: Sequence[str]) -> list[str]:
    """What is wrong with what a device heard of its wake; `spells` are the sockets of its user."""
    found = []
    said = [status for _, status in called.outcomes]
    until = called.at + AROUND_S
    held = [
        one.bridge
        for one in spells
        if one.covers(called.at - 0.5, until) and canaries.well(one.bridge, called.at - AROUND_S, until)
    ]
    if held and not GOOD & set(said):
        found.append(f"untrue: {called.uid} had a socket at {held[0]}, and the device heard {said or 'nothing'}")
    elif held and set(said) - GOOD and canaries.all_well(bridges, called.at - AROUND_S, until):
        found.append(f"hasty: {called.uid} had a socket at {held[0]}, all were well, and the device heard {said}")
    alive = any(canaries.well(name, called.at, called.at + TTL_S - 3) for name in bridges)
    if alive and not said:
        found.append(f"silent: no bridge said what became of a wake for {called.uid}")
    found += [
        f"old: a wake for {called.uid} rang {one.at - called.at:.1f} s after it was said"
        for one in called.rung
        if one.at > called.at + TTL_S + RANG_LATE_S
        # A bridge that heard nothing then cannot know how long the broker has held it.
        and canaries.well(one.spell.bridge, called.at, until)
    ]
    return found


@dataclass
class Asked:
    """An HTTP caller's wake, at one bridge, and whether it was answered that it rings."""

    uid: str
    bridge: str
    at: float
    rang: bool = False


def of_trigger(asked: Asked, spells: Sequence[Spell], canaries: Canaries) -> list[str]:
    """A caller who heard that a user is not connected who was."""
    since, until = asked.at - AROUND_S, asked.at + AROUND_S
    held = [one.bridge for one in spells if one.covers(asked.at - 0.5, until)]
    if asked.rang or not held or not canaries.all_well({asked.bridge, held[0]}, since, until):
        return []
    return [f"untrue: {asked.uid} had a socket at {held[0]}, and a caller at {asked.bridge} heard that there is none"]


def twice(called: Called) -> list[str]:
    """A socket of the documented protocol that got it twice."""
    times = Counter(id(one.spell) for one in called.rung)
    return [f"twice: one socket of {called.uid} rang {count} times" for count in times.values() if count > 1]


@dataclass
class LoggedOut:
    """A log-out that was answered, the sockets that its user had, and one that was opened after the answer."""

    uid: str
    answered: float
    spells: list[Spell]
    after: Spell | None = None


def of_log_out(out: LoggedOut, hurts: Sequence[Hurt], canaries: Canaries, now: float) -> list[str]:
    """Sockets that stayed open too long, and a new one that did not stay open."""
    found = []
    for one in out.spells:
        took = (one.ended or now) - out.answered
        until = out.answered + CLOSED_WITHIN_S + BUSY_S
        unhurt = not hurts_of(one.bridge, hurts, out.answered - UNHURT_S, until)
        well = unhurt and canaries.well(one.bridge, out.answered - AROUND_S, until)
        most = CLOSED_WITHIN_S + BUSY_S if well else CLOSED_AT_LAST_S
        if took > most:
            found.append(f"open: a socket of {out.uid} at {one.bridge}, {took:.1f} s after the log-out was answered")
    after = out.after
    if after is not None and after.code is not None and after.code >= CloseCode.HEARTBEAT_TIMEOUT:
        found.append(f"closed: a socket of {out.uid} that connected after its log-out, with {after.code}")
    return found


def of_spell(spell: Spell, hurts: Sequence[Hurt]) -> list[str]:
    """A socket of a user who beats and logs out nowhere: only what hurt its bridge may have closed it."""
    if spell.code is None or spell.ended is None:
        return []
    if spell.code >= CloseCode.HEARTBEAT_TIMEOUT:
        return [f"false: {spell.uid}'s socket at {spell.bridge} was closed with {spell.code}"]
    near = hurts_of(spell.bridge, hurts, spell.ended - UNHURT_S, spell.ended + 1.0)
    if any(one.fault in ENDS_SOCKETS for one in near):
        return []
    return [f"closed: {spell.uid}'s socket at {spell.bridge} with {spell.code}, and nothing had hurt that bridge"]


def of_move(spells: Sequence[Spell], canaries: Canaries, at: float) -> list[str]:
    """Sockets of one client at two bridges, judged a while after the last: one must be left, the newest."""
    bridges = {one.bridge for one in spells}
    if not canaries.all_well(bridges, at - 1.0, at + CLOSED_WITHIN_S + BUSY_S):
        return []
    if any(one.ended is not None and one.code is None for one in spells):
        return []  # its network was cut
    left = [one for one in spells if one.ended is None or one.ended > at + CLOSED_WITHIN_S + BUSY_S]
    if len(left) == 1:
        return []
    return [f"both: {len(left)} sockets of one client of {spells[0].uid} at {', '.join(sorted(bridges))}"]


def around(at: float, hurts: Iterable[Hurt]) -> str:
    """What the harness did in the ten seconds before and after that time."""
    near = [
        f"{one.fault} of {one.what} from {one.since - at:+.1f} to {one.until - at:+.1f} s"
        for one in hurts
        if one.until > at - TTL_S and one.since < at + TTL_S
    ]
    return f"it came at {at:.1f}, around {', '.join(near) or 'no fault'}"


def hurts_of(bridge: str, hurts: Iterable[Hurt], since: float, until: float) -> list[Hurt]:
    """What was done to the bridge then, or to all."""
    return [one for one in hurts if one.what in {bridge, "all"} and one.since <= until and one.until >= since]
