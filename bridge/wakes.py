"""The life of wakes: which are known, which still ring, which nobody took. Decides, sends nothing."""

from collections import OrderedDict, deque
from dataclasses import dataclass

from contract.messages import OutcomeStatus, Wake

REMEMBERED_WAKES = 10_000
AGAIN_S = 2.0
MISSED_PER_USER = 20
USERS_WITH_MISSED = 10_000


@dataclass(slots=True, eq=False)
class Fate:
    """What became of one wake so far; times are monotonic seconds."""

    wake: Wake
    device_id: str
    status: OutcomeStatus
    received_at: float
    expires_at: float
    latency_ms: float = 0.0
    again_at: float = 0.0
    taken: bool = False
    """A socket that cannot confirm got it, or one that can has confirmed."""


@dataclass(frozen=True, slots=True)
class Missed:
    """A wake that nobody took, for the list at the user's next connection."""

    id: str
    command: str
    device_id: str
    timestamp: str


class Wakes:
    """Every wake of the last while by its id, the living ones by user, the missed ones by user; all bounded."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Fate] = OrderedDict()
        self._living: dict[str, dict[str, Fate]] = {}
        self._missed: OrderedDict[str, deque[Missed]] = OrderedDict()

    def known(self, wake_id: str) -> Fate | None:
        """The fate of a wake that came before."""
        return self._known.get(wake_id)

    def remember(self, fate: Fate) -> None:
        """A new wake; it lives on unless its status is final."""
        self._known[fate.wake.id] = fate
        if len(self._known) > REMEMBERED_WAKES:
            _, oldest = self._known.popitem(last=False)
            self._bury(oldest)
        if fate.status in {"sent", "user_not_connected"}:
            fate.again_at = fate.received_at + AGAIN_S
            self._living.setdefault(fate.wake.uid, {})[fate.wake.id] = fate

    def settled(self, fate: Fate) -> None:
        """An app confirmed: it rings no more."""
        fate.taken = True
        self._bury(fate)

    def living_of(self, uid: str, now: float) -> list[Fate]:
        """The user's wakes that may still ring, oldest first."""
        return [fate for fate in self._living.get(uid, {}).values() if fate.expires_at > now]

    def due_again(self, now: float) -> list[Fate]:
        """Living wakes to be sent again now; those whose life is over leave, to the missed ones if nobody took them."""
        due: list[Fate] = []
        over: list[Fate] = []
        for fates in self._living.values():
            for fate in fates.values():
                if fate.expires_at <= now:
                    over.append(fate)
                elif fate.again_at <= now:
                    fate.again_at = now + AGAIN_S
                    due.append(fate)
        for fate in over:
            self._bury(fate)
            if not fate.taken:
                self._miss(fate)
        return due

    def take_missed(self, uid: str) -> list[Missed]:
        """What the user missed since the last call, newest last; forgotten here."""
        return list(self._missed.pop(uid, ()))

    def _bury(self, fate: Fate) -> None:
        fates = self._living.get(fate.wake.uid, {})
        fates.pop(fate.wake.id, None)
        if not fates:
            self._living.pop(fate.wake.uid, None)

    def _miss(self, fate: Fate) -> None:
        wake = fate.wake
        missed = self._missed.setdefault(wake.uid, deque(maxlen=MISSED_PER_USER))
        missed.append(Missed(wake.id, wake.command, fate.device_id, wake.timestamp))
        self._missed.move_to_end(wake.uid)
        if len(self._missed) > USERS_WITH_MISSED:
            self._missed.popitem(last=False)
