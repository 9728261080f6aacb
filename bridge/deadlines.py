"""Deadlines in service time: seconds in which this service could have heard a heartbeat."""

import heapq
import math
from collections.abc import Iterator

LONGEST_STEP_S = 2.0


class ServiceTime:
    """Time that goes on only while the service lives and can write (T1).

    A stop, a sleep, a clock jump or a dead disk does not count against users.
    """

    def __init__(self, monotonic_now: float, seconds: float = 0.0) -> None:
        self._kept = seconds
        self._kept_at = monotonic_now

    def read(self, monotonic_now: float) -> float:
        """The service time: at most 2 s beyond what was kept last."""
        return self._kept + min(max(monotonic_now - self._kept_at, 0.0), LONGEST_STEP_S)

    def keep(self, seconds: float, monotonic_then: float) -> None:
        """`seconds`, as read at `monotonic_then`, was written: count on from there."""
        if seconds >= self._kept:
            self._kept = seconds
            self._kept_at = monotonic_then


class Deadlines:
    """One deadline per living user. A sweep with nothing due looks at one entry, however many users there are."""

    def __init__(self) -> None:
        self._deadline: dict[str, float] = {}
        # At most one valid heap entry per user, never later than the true deadline, which the dict above knows.
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
        """The user lives at least until `deadline`; an earlier one than the present changes nothing."""
        known = self._deadline.get(uid)
        if known is None or known < deadline:
            self.put(uid, deadline)

    def put(self, uid: str, deadline: float) -> None:
        """The user lives until `deadline`, whatever was said before."""
        self._deadline[uid] = deadline
        if self._entry.get(uid, math.inf) > deadline:
            self._push(deadline, uid)

    def remove(self, uid: str) -> float | None:
        """The user left; the deadline, None when there was none."""
        return self._deadline.pop(uid, None)

    def pop_due(self, now: float, most: int | None = None) -> list[tuple[str, float]]:
        """Take out users whose deadline is past, oldest first, at most so many, each with it."""
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
