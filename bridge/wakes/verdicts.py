"""Which wake waits for which bridge's word, and until when. No I/O.

Bridges that share a ledger all hear each wake. One that has no socket for it remembers it, and waits: perhaps another
has one. If no good word comes, one bridge after another asks the others (`SEEK_AFTER_S`) and then says what is wrong
(`JUDGE_AFTER_S`), in an order of the bridges that the wake's id gives. If two disagree about that order, nothing is
wrong.
"""

from collections import deque
from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from itertools import count

from msgspec import Struct

from contract.messages import OutcomeStatus, Wake, is_unnamed
from contract.wake_codec import QuickWake

SEEK_AFTER_S = 0.15
JUDGE_AFTER_S = 0.5
ANSWERS_S = 0.25
"""At least so long after it has asked, this bridge judges: one that stood still finds both due at once."""
NEXT_RANK_S = 0.25
"""How long the next bridge in a wake's order waits longer."""
LOOK_AGAIN_S = 0.1
"""How often a wake is looked at whose judge does not know what others have changed meanwhile."""
REMEMBERED_S = 12.0
"""At least. A device repeats a wake for 10 s, and a cluster of brokers holds one for up to 8.4 s."""
MAX_BYTES = 64 * 2**20
"""Of the texts of wakes older than `SEEK_AFTER_S`; beyond it the oldest are remembered, and no longer ring a socket."""

_OBJECTS_BYTES = 400
"""About what a remembered wake takes beside its texts."""

WORTH: dict[OutcomeStatus, int] = {
    "expired": 1,
    "rejected": 1,
    "user_not_connected": 1,
    "sent": 2,
    "pushed": 3,
    "acked": 4,
}
"""Each outcome says more than those with a lower number. 1: no bridge has rung it."""
SENT = WORTH["sent"]
ACKED = WORTH["acked"]


# A Struct, as `Delivery` is one.
class Remembered(Struct, eq=False, gc=False):
    """A wake that rang no socket of this bridge; only `Verdicts` changes it. Times are monotonic seconds."""

    wake_id: str
    device_id: str
    came_at: float
    forget_at: float
    """When it is forgotten, if it is over then."""
    wake: Wake | QuickWake | None = None
    """None: only another bridge's word about it came so far, or it can ring no more."""
    expires_at: float = 0.0
    word: int = 0
    """The most that another bridge said of it, see `WORTH`; 0: nothing."""
    came: bool = False
    """The wake itself came, not only a word about it."""
    oldest_ms: int = 0
    """The highest age that it came with."""
    waits: int | None = None
    """The number of its waiting; None if it waits for nothing."""
    sought_at: float = float("-inf")
    """When other bridges were asked for it."""
    listed: bool = False
    """Its text is counted, and found by its user."""

    def age_ms(self, now: float) -> int:
        """How long ago its word was said. Only of a wake that can ring."""
        return 0 if self.wake is None else max(0, self.wake.ttl_ms - round((self.expires_at - now) * 1000))


class Verdicts:
    """The wakes that rang no socket here.

    Args:
        rank: the place of this bridge in the order for a name; 0 is the first.
        max_bytes: see MAX_BYTES.
    """

    def __init__(self, rank: Callable[[str], int], max_bytes: int = MAX_BYTES) -> None:
        self._rank = rank
        self._max_bytes = max_bytes
        self._bytes = 0
        self._known: dict[str, Remembered] = {}
        self._order: deque[Remembered] = deque()  # by the time to forget it
        self._texts: deque[Remembered] = deque()  # oldest first; some may have none now
        self._living: dict[str, dict[str, Remembered]] = {}  # by user and id: those listed
        # Not listed yet, with the number of their waiting: most are another bridge's, and are over before they are.
        self._new: deque[tuple[float, int | None, Remembered]] = deque()
        self._steps: list[tuple[float, int, int, bool, Remembered]] = []
        self._unnamed: dict[str, list[Remembered]] = {}  # by device; some may wait no more
        self._numbers = count()

    def __len__(self) -> int:
        return len(self._known)

    def known(self, wake_id: str) -> Remembered | None:
        """What is remembered of this wake."""
        return self._known.get(wake_id)

    def came(self, device_id: str, wake: Wake | QuickWake, now: float, *, waits: bool) -> Remembered:
        """A wake came that rings no socket here, the first time or again.

        If it `waits`, this bridge or another says what is wrong with it. One that waits already, or of which another
        bridge said a word, does not begin anew, unless the device repeats it, with a higher age: then the device has
        not heard that word.
        """
        expires_at = now + (wake.ttl_ms - wake.age_ms) / 1000
        one = self._known.get(wake.id)
        if one is None:
            one = self._remember(wake.id, device_id, now)
        elif one.wake is not None:
            one.expires_at = min(one.expires_at, expires_at)
            if waits and one.waits is None and wake.age_ms > one.oldest_ms:
                one.word = 0
            one.oldest_ms = max(one.oldest_ms, wake.age_ms)
        first = not one.came
        if first:
            one.came, one.expires_at, one.oldest_ms = True, expires_at, wake.age_ms
            if one.word != ACKED:
                one.wake = wake
        if waits and one.waits is None and not one.word:
            one.waits = next(self._numbers)
            self._new.append((now, one.waits, one))
            if is_unnamed(wake.id):
                waiting = [other for other in self._unnamed.pop(device_id, ()) if other.waits is not None]
                self._unnamed[device_id] = [*waiting, one]
        elif first:
            self._new.append((now, None, one))
        return one

    def heard(self, device_id: str, wake_id: str, status: OutcomeStatus, now: float) -> None:
        """Another bridge told the device this outcome."""
        one = self._known.get(wake_id)
        if one is None and is_unnamed(wake_id):
            # Each bridge gave it an id of its own: it is taken for the oldest of this device that waits.
            one = next((other for other in self._unnamed.get(device_id, ()) if other.waits is not None), None)
            if one is None:
                return
        elif one is None:
            self._forget(now)
            one = self._remember(wake_id, device_id, now)
        elif one.device_id != device_id:
            return
        one.word = max(one.word, WORTH[status])
        one.waits = None
        if one.word == ACKED:
            self._drop_text(one)

    def settled(self, one: Remembered) -> None:
        """It rang here, or was judged here: what follows is not this object's."""
        one.waits = None
        self._drop_text(one)

    def left(self, uid: str) -> list[tuple[Remembered, Wake | QuickWake]]:
        """The user is logged out: none of the user's wakes rings a socket that connects. Returns those that waited."""
        waited: list[tuple[Remembered, Wake | QuickWake]] = []
        for one in {one.wake_id: one for one in self._of(uid)}.values():
            if one.waits is not None and one.wake is not None:
                waited.append((one, one.wake))
            one.waits = None
            self._drop_text(one)
        return waited

    def living_of(self, uid: str, now: float) -> list[Remembered]:
        """The user's wakes that may ring a socket which connects, oldest first."""
        # A dict: a wake may wait twice.
        return list({one.wake_id: one for one in self._of(uid) if one.expires_at > now}.values())

    def _of(self, uid: str) -> Iterator[Remembered]:
        yield from self._living.get(uid, {}).values()
        for _, _, one in self._new:
            if one.wake is not None and one.wake.uid == uid and not one.listed:
                yield one

    def next_at(self) -> float | None:
        """When `due` has something to do; None if nothing waits. It may be a wake that waits no more."""
        times = [self._new[0][0] + SEEK_AFTER_S] if self._new else []
        if self._steps:
            times.append(self._steps[0][0])
        return min(times, default=None)

    def due(
        self, now: float, fresh_since: float, connected_since: float = float("-inf")
    ) -> tuple[list[Remembered], list[Remembered]]:
        """The wakes to ask other bridges for, and those to judge here: to ring, or to say what is wrong.

        Args:
            now: monotonic.
            fresh_since: this bridge knows all that was changed in the ledger before this time. A wake that came later
                is not judged: perhaps its user has logged in since.
            connected_since: the connection to the broker is so old; infinite while there is none. A wake that others
                were not asked for over this connection is not judged: what was sent over another may be lost.
        """
        self._forget(now)
        self._list_new(now)
        seek: list[Remembered] = []
        judge: list[Remembered] = []
        while self._steps and self._steps[0][0] <= now:
            _, _, number, last, one = heappop(self._steps)
            if one.waits != number:
                continue
            if one.wake is None:
                one.waits = None
            elif last:
                if not is_unnamed(one.wake_id) and one.sought_at < connected_since:
                    if connected_since <= now:
                        one.sought_at = now
                        seek.append(one)
                    self._step(now + LOOK_AGAIN_S, number, one, last=True)
                    continue
                judge += self._judged(one, number, now, fresh_since)
            elif not is_unnamed(one.wake_id):
                one.sought_at = now
                seek.append(one)
        return seek, judge

    def _list_new(self, now: float) -> None:
        while self._new and self._new[0][0] + SEEK_AFTER_S <= now:
            since, number, one = self._new.popleft()
            if one.wake is not None and not one.listed:
                self._list(one, one.wake)
            if number is not None and one.waits == number:
                pause = NEXT_RANK_S * self._rank(one.device_id if is_unnamed(one.wake_id) else one.wake_id)
                self._step(since + SEEK_AFTER_S + pause, number, one, last=False)
                self._step(since + JUDGE_AFTER_S + pause, number, one, last=True)

    def _judged(self, one: Remembered, number: int, now: float, fresh_since: float) -> list[Remembered]:
        """The wake, if it is time to judge it; else it waits on, or is left to others."""
        again_at = None
        if now < one.sought_at + ANSWERS_S:
            again_at = one.sought_at + ANSWERS_S
        elif fresh_since < one.came_at and now < one.expires_at:
            again_at = now + LOOK_AGAIN_S
        if again_at is not None:
            self._step(again_at, number, one, last=True)
            return []
        one.waits = None
        return [one] if fresh_since >= one.came_at else []

    def _step(self, at: float, number: int, one: Remembered, *, last: bool) -> None:
        heappush(self._steps, (at, next(self._numbers), number, last, one))

    def _remember(self, wake_id: str, device_id: str, now: float) -> Remembered:
        one = self._known[wake_id] = Remembered(wake_id, device_id, now, now + REMEMBERED_S)
        self._order.append(one)
        return one

    def _list(self, one: Remembered, wake: Wake | QuickWake) -> None:
        one.listed = True
        self._bytes += _size(wake)
        self._texts.append(one)
        living = self._living.get(wake.uid)
        if living is None:
            self._living[wake.uid] = {wake.id: one}
        else:
            living[wake.id] = one
        while self._bytes > self._max_bytes:
            self._drop_text(self._texts.popleft())

    def _drop_text(self, one: Remembered) -> None:
        wake = one.wake
        if wake is None:
            return
        one.wake = None
        if not one.listed:
            return
        self._bytes -= _size(wake)
        living = self._living[wake.uid]
        del living[wake.id]
        if not living:
            del self._living[wake.uid]

    def _forget(self, now: float) -> None:
        """Those whose time is over. One that lives longer is looked at again later."""
        while self._order and self._order[0].forget_at <= now:
            one = self._order.popleft()
            if one.expires_at > now:
                one.forget_at = now + REMEMBERED_S
                self._order.append(one)
                continue
            del self._known[one.wake_id]
            self._drop_text(one)
            one.waits = None
            if is_unnamed(one.wake_id):
                self._unnamed.pop(one.device_id, None)
        while self._texts and self._texts[0].wake is None:
            self._texts.popleft()


def _size(wake: Wake | QuickWake) -> int:
    model = 0 if wake.model is None else len(wake.model)
    return _OBJECTS_BYTES + len(wake.uid) + len(wake.command) + len(wake.timestamp) + len(wake.id) + model
