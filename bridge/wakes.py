"""The life of wakes: which are known, which still ring, are due for a push, nobody took. Decides, sends nothing."""

from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass

from bridge.rows import Change, Missed, MissedTold
from contract.messages import OutcomeStatus, Wake
from contract.quick_wake import QuickWake

REMEMBERED_WAKES = 10_000
AGAIN_S = 2.0
PUSH_AFTER_S = 1.5
"""How long a socket has to take a wake: a half-open one of a sleeping phone swallows it and says nothing."""

MISSED_PER_USER = 20
USERS_WITH_MISSED = 10_000
MAX_UNSAVED = 10_000


@dataclass(slots=True, eq=False)
class Fate:
    """What became of one wake so far; times are monotonic seconds."""

    wake: Wake | QuickWake
    device_id: str
    status: OutcomeStatus
    received_at: float
    expires_at: float
    received_on: str = ""
    """The date of `received_at`, for people."""

    latency_ms: float = 0.0
    again_at: float = 0.0
    taken: bool = False
    """A socket that cannot confirm got it, or one that can has confirmed."""
    push_due: bool = True
    """No push has been asked for yet."""


class Wakes:
    """Every wake of the last while by its id, the living ones by user, the missed ones by user; all bounded.

    Attributes:
        unsaved: what changed among the missed ones; whoever stores it takes it out.
    """

    def __init__(self) -> None:
        self.unsaved: deque[Change] = deque(maxlen=MAX_UNSAVED)
        self._known: dict[str, Fate] = {}
        self._order: deque[Fate] = deque()  # of those known, the oldest first
        self._living: dict[str, list[Fate]] = {}
        self._missed: OrderedDict[str, deque[Missed]] = OrderedDict()

    def known(self, wake_id: str) -> Fate | None:
        """The fate of a wake that came before."""
        return self._known.get(wake_id)

    def remember(self, fate: Fate) -> None:
        """A new wake; it lives on unless its status is final."""
        self._known[fate.wake.id] = fate
        self._order.append(fate)
        if len(self._order) > REMEMBERED_WAKES:
            oldest = self._order.popleft()
            del self._known[oldest.wake.id]
            self._bury(oldest)
        if fate.status in {"sent", "user_not_connected"}:
            fate.again_at = fate.received_at + AGAIN_S
            living = self._living.get(fate.wake.uid)
            if living is None:
                self._living[fate.wake.uid] = [fate]
            else:
                living.append(fate)

    def settled(self, fate: Fate) -> None:
        """An app confirmed: it rings no more."""
        fate.taken = True
        self._bury(fate)

    def living_of(self, uid: str, now: float) -> list[Fate]:
        """The user's wakes that may still ring, oldest first."""
        return [fate for fate in self._living.get(uid, ()) if fate.expires_at > now]

    def due_again(self, now: float) -> list[Fate]:
        """Living wakes to be sent again now; those whose life is over leave, to the missed ones if nobody took them."""
        due: list[Fate] = []
        over: list[Fate] = []
        for fates in self._living.values():
            for fate in fates:
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

    def due_for_push(self, now: float) -> list[Fate]:
        """Living wakes that no socket took in time; each of them once."""
        due = [
            fate
            for fates in self._living.values()
            for fate in fates
            if fate.push_due and not fate.taken and fate.received_at + PUSH_AFTER_S <= now < fate.expires_at
        ]
        for fate in due:
            fate.push_due = False
        return due

    def load_missed(self, missed: Iterable[Missed]) -> None:
        """What an earlier run left, oldest first."""
        for wake in missed:
            self._remember_missed(wake)

    def take_missed(self, uid: str) -> list[Missed]:
        """What the user missed since the last call, newest last; forgotten here."""
        missed = list(self._missed.pop(uid, ()))
        if missed:
            self.unsaved.append(MissedTold(uid))
        return missed

    def _bury(self, fate: Fate) -> None:
        uid = fate.wake.uid
        living = self._living.get(uid)
        if living is not None and fate in living:
            if len(living) == 1:
                del self._living[uid]
            else:
                living.remove(fate)

    def _miss(self, fate: Fate) -> None:
        wake = fate.wake
        missed = Missed(wake.id, wake.uid, wake.command, fate.device_id, wake.timestamp, fate.received_on)
        self._remember_missed(missed)
        self.unsaved.append(missed)

    def _remember_missed(self, missed: Missed) -> None:
        of_user = self._missed.setdefault(missed.uid, deque(maxlen=MISSED_PER_USER))
        of_user.append(missed)
        self._missed.move_to_end(missed.uid)
        if len(self._missed) > USERS_WITH_MISSED:
            uid, _ = self._missed.popitem(last=False)
            self.unsaved.append(MissedTold(uid))
