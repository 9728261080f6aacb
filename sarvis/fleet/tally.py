"""The outcome of each wake, from both ends: the device that made it and the apps that rang. No I/O; time is given.

A wake is accounted for when its device has an outcome. One whose outcome is `acked` must have rung at an app of its
user, and no app may ring twice for it, nor for another user's.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal, get_args

from contract.messages import OutcomeStatus
from sarvis.fleet.latencies import Latencies, Spread

FateOf = OutcomeStatus | Literal["none", "dropped"]
"""`none`: the device has received no outcome yet.

`dropped`: its session ended first, so that the wake concerns no user.
"""
FATES: tuple[FateOf, ...] = (*get_args(OutcomeStatus), "dropped", "none")
UNSETTLED = frozenset({"none", "sent", "user_not_connected"})
"""While the wake lives, these may still change."""
KEPT_FOR_S = 5.0
"""A repetition may come this long after a wake's life; later the wake is forgotten."""


@dataclass(frozen=True, slots=True)
class Missing:
    """Counts of wakes that are wrong; all zero if everything is accounted for.

    Attributes:
    without_fate: no device has their outcome.
    not_received: their outcome is `acked`, and no app of their user rang.
    rang_twice: an app rang for them more than once.
    astray: an app of another user rang.
    """

    without_fate: int
    not_received: int
    rang_twice: int
    astray: int

    def __bool__(self) -> bool:
        return bool(self.without_fate or self.not_received or self.rang_twice or self.astray)


@dataclass(frozen=True, slots=True)
class Wakes:
    """The sums of all wakes.

    Attributes:
    made: by devices with a session.
    ignored: words on devices in standby, which make no wake.
    received: at least one app of the user rang.
    duplicates: rings of an app that had rung for the same wake.
    repeats: repeated deliveries to an app, which did not ring again, as required.
    foreign: rings for wakes that this fleet did not make.
    app: from the word to an app that rings.
    outcome: from the word to the first outcome at the device.
    """

    made: int
    ignored: int
    fates: dict[FateOf, int]
    received: int
    duplicates: int
    repeats: int
    foreign: int
    missing: Missing
    app: Spread
    outcome: Spread


@dataclass(slots=True)
class _Wake:
    device_id: str
    uid: str
    at: float
    fate: FateOf = "none"
    rings: Counter[str] = field(default_factory=Counter)
    astray: bool = False


class Tally:
    """The records of all wakes; final ones are added up and forgotten.

    Args:
    life_s: the life of a wake.
    """

    def __init__(self, life_s: float) -> None:
        self._life_s = life_s
        self._wakes: dict[str, _Wake] = {}
        self._closed: Counter[str] = Counter()
        self._closed_fates: Counter[FateOf] = Counter()
        self._ignored = self._repeats = self._foreign = 0
        self._to_app = Latencies()
        self._to_outcome = Latencies()

    # The device:

    def made(self, wake_id: str, device_id: str, uid: str, now: float) -> None:
        """A device recognised its word."""
        self._wakes[wake_id] = _Wake(device_id, uid, now)

    def ignored(self) -> None:
        """A device in standby recognised the word, and made no wake."""
        self._ignored += 1

    def outcome(self, wake_id: str, status: OutcomeStatus, now: float) -> None:
        """A device received an outcome; the last one counts."""
        wake = self._wakes.get(wake_id)
        if wake is None:
            return
        if wake.fate == "none":
            self._to_outcome.add(now - wake.at)
        wake.fate = status

    def logged_out(self, device_id: str) -> None:
        """A device's session ended: by its rules it drops the wakes without an outcome."""
        for wake in self._wakes.values():
            if wake.device_id == device_id and wake.fate == "none":
                wake.fate = "dropped"

    # The app:

    def rang(self, app: str, uid: str, wake_id: object, now: float) -> None:
        """An app of a user rang."""
        wake = self._wakes.get(wake_id) if isinstance(wake_id, str) else None
        if wake is None:
            self._foreign += 1
            return
        if uid != wake.uid:
            wake.astray = True
            return
        wake.rings[app] += 1
        if wake.rings[app] == 1:
            self._to_app.add(now - wake.at)

    def repeated(self) -> None:
        """An app received a wake for which it had rung, and did not ring again."""
        self._repeats += 1

    # The sum:

    def unsettled(self, now: float) -> int:
        """How many living wakes may still change their outcome."""
        return sum(wake.fate in UNSETTLED and now - wake.at < self._life_s for wake in self._wakes.values())

    def forget(self, now: float) -> None:
        """Add up the wakes that can no longer change; call it now and then."""
        # They are ordered by time.
        over = []
        for wake_id, wake in self._wakes.items():
            if now - wake.at < self._life_s + KEPT_FOR_S:
                break
            over.append(wake_id)
        for wake_id in over:
            _add(self._wakes.pop(wake_id), self._closed, self._closed_fates)

    def wakes(self) -> Wakes:
        """The sum so far."""
        sums, fates = self._closed.copy(), self._closed_fates.copy()
        for wake in self._wakes.values():
            _add(wake, sums, fates)
        return Wakes(
            made=sums["made"],
            ignored=self._ignored,
            fates={fate: fates[fate] for fate in FATES},
            received=sums["received"],
            duplicates=sums["duplicates"],
            repeats=self._repeats,
            foreign=self._foreign,
            missing=Missing(fates["none"], sums["not_received"], sums["rang_twice"], sums["astray"]),
            app=self._to_app.spread(),
            outcome=self._to_outcome.spread(),
        )


def _add(wake: _Wake, sums: Counter[str], fates: Counter[FateOf]) -> None:
    again = wake.rings.total() - len(wake.rings)
    fates[wake.fate] += 1
    sums["made"] += 1
    sums["received"] += bool(wake.rings)
    sums["duplicates"] += again
    sums["rang_twice"] += again > 0
    sums["not_received"] += wake.fate == "acked" and not wake.rings
    sums["astray"] += wake.astray
