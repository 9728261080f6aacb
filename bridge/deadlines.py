"""Who is alive until when, in service time: seconds in which this service could have heard a heartbeat."""

import heapq
import math
from collections.abc import Iterator

LONGEST_STEP_S = 2.0


class ServiceTime:
    """Time that only advances while the service lives: a stop, a sleep or a clock jump does not count against users."""

    def __init__(self, monotonic_now: float) -> None:
        self._last = monotonic_now
        self.now = 0.0

    def advance(self, monotonic_now: float) -> float:
        """Add what passed since the last call, at most 2 s, never less than nothing; returns the service time."""
        self.now += min(max(monotonic_now - self._last, 0.0), LONGEST_STEP_S)
        self._last = monotonic_now
        return self.now


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
        if known is not None and known >= deadline:
            return
        self._deadline[uid] = deadline
        if self._entry.get(uid, math.inf) > deadline:
            self._push(deadline, uid)

    def remove(self, uid: str) -> bool:
        """The user left; False when there was no deadline."""
        return self._deadline.pop(uid, None) is not None

    def pop_due(self, now: float) -> list[str]:
        """Take out the users whose deadline is past, oldest first."""
        due: list[tuple[float, str]] = []
        while self._heap and self._heap[0][0] <= now:
            at, uid = heapq.heappop(self._heap)
            if self._entry.get(uid) != at:
                continue
            del self._entry[uid]
            deadline = self._deadline.get(uid)
            if deadline is None:
                continue
            if deadline > now:
                self._push(deadline, uid)
            else:
                del self._deadline[uid]
                due.append((deadline, uid))
        return [uid for _, uid in sorted(due)]

    def _push(self, at: float, uid: str) -> None:
        self._entry[uid] = at
        heapq.heappush(self._heap, (at, uid))
