"""Deadlines in service time: seconds in which the bridge could have received a heartbeat."""

import heapq
import math
from collections.abc import Iterator

LONGEST_STEP_S = 2.0


class ServiceTime:
    """Time that advances only while a service runs and can write (T1): a row of the ledger.

    A stop, a sleep, a clock jump or a failed disk does not count against users. Between two looks at the row only
    bounds are known: it never runs faster than real time, and no writer advances it by more than 2 s at once.

    Args:
        alone: no other process advances the row; then `read` is exact.
    """

    def __init__(self, monotonic_now: float, seconds: float = 0.0, *, alone: bool = True) -> None:
        self._alone = alone
        self._kept = seconds
        self._sent_at = monotonic_now
        """When the latest question was asked that found this value."""
        self._kept_at = monotonic_now
        """When it was first known."""

    def read(self, monotonic_now: float) -> float:
        """The service time, or a lower bound: at most 2 s beyond the last stored value. It may be stored as it is."""
        return self._kept + min(max(monotonic_now - self._kept_at, 0.0), LONGEST_STEP_S)

    @property
    def kept_s(self) -> float:
        """The last value that is known of the row."""
        return self._kept

    def latest(self, monotonic_now: float) -> float:
        """An upper bound, however old the last look is: others may have advanced the row."""
        if self._alone:
            return self.read(monotonic_now)
        return self._kept + max(monotonic_now - self._sent_at, 0.0) + LONGEST_STEP_S

    def keep(self, seconds: float, monotonic_then: float) -> None:
        """`seconds`, as read at `monotonic_then`, was stored: continue from there."""
        self.seen(seconds, sent_at=monotonic_then, arrived_at=monotonic_then)

    def seen(self, seconds: float, *, sent_at: float, arrived_at: float) -> None:
        """The row had this value at some moment between these two."""
        if seconds > self._kept:
            self._kept, self._sent_at, self._kept_at = seconds, sent_at, arrived_at
        elif seconds == self._kept:
            self._sent_at = max(self._sent_at, sent_at)


class Deadlines:
    """One deadline per alive user. A sweep with nothing due looks at one entry, however many users there are."""

    def __init__(self) -> None:
        self._deadline: dict[str, float] = {}
        # At most one valid heap entry per user, never later than the true deadline, which the dict above holds.
        self._heap: list[tuple[float, str]] = []
        self._entry: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._deadline)

    def __iter__(self) -> Iterator[str]:
        return iter(self._deadline)

    def get(self, uid: str) -> float | None:
        """The user's deadline, None when the user is not alive."""
        return self._deadline.get(uid)

    def raise_to(self, uid: str, deadline: float) -> None:
        """The user is alive at least until `deadline`; an earlier one than the present changes nothing."""
        known = self._deadline.get(uid)
        if known is None or known < deadline:
            self.put(uid, deadline)

    def put(self, uid: str, deadline: float) -> None:
        """The user is alive until `deadline`, whatever was set before."""
        self._deadline[uid] = deadline
        if self._entry.get(uid, math.inf) > deadline:
            self._push(deadline, uid)

    def remove(self, uid: str) -> float | None:
        """The user left; returns the deadline, None if there was none."""
        return self._deadline.pop(uid, None)

    def pop_due(self, now: float, most: int | None = None) -> list[tuple[str, float]]:
        """Remove users whose deadline is past, oldest first, at most `most`, each with its deadline."""
        due: list[tuple[str, float]] = []
        while self._heap and self._heap[0][0] <= now and (most is None or len(due) < most):
            at, uid = heapq.heappop(self._heap)
            if self._entry.get(uid) != at:
                continue
            del self._entry[uid]
            deadline = self._deadline.get(uid)
            if deadline is None:
                continue
            if deadline > at:
                # Sorted in again, even if it is due, too: the oldest deadline comes first.
                self._push(deadline, uid)
            else:
                del self._deadline[uid]
                due.append((uid, deadline))
        return due

    def _push(self, at: float, uid: str) -> None:
        self._entry[uid] = at
        heapq.heappush(self._heap, (at, uid))
