"""Which push services do not take pushes now. No I/O; times are Unix time."""

from dataclasses import dataclass

LOOKS_BACK_S = 3600.0
MOST_SERVICES = 100
FAILED = frozenset({"refused", "given_up"})


@dataclass(slots=True)
class Failing:
    """A push service that took nothing since a push to it failed.

    Attributes:
        result: of the last push, as in the metric `sarvis_pushes_total`.
        since: of the first failure since it last took one.
        last: of the last failure.
        count: failures since then.
    """

    service: str
    result: str
    since: float
    last: float
    count: int = 0


class FailingServices:
    """Follows the results of pushes."""

    def __init__(self) -> None:
        self._failing: dict[str, Failing] = {}

    def ended(self, service: str, result: str, now: float) -> None:
        """A push to a service ended."""
        if result == "accepted":
            self._failing.pop(service, None)
        elif result in FAILED:
            one = self._failing.get(service)
            if one is None:
                if len(self._failing) >= MOST_SERVICES:
                    del self._failing[min(self._failing, key=lambda name: self._failing[name].last)]
                one = self._failing[service] = Failing(service, result, now, now)
            one.result, one.last, one.count = result, now, one.count + 1

    def now(self, now: float) -> list[Failing]:
        """Those that failed within the last hour, the longest first."""
        found = (one for one in self._failing.values() if now - one.last < LOOKS_BACK_S)
        return sorted(found, key=lambda one: (one.since, one.service))
