"""Notes what happens to each wake, step by step. No I/O.

A wake costs some microseconds, so a step is one tuple, and what was noted becomes a `Story` only when it is written.
"""

from bridge.stories.records import StoryFields
from bridge.wakes.delivery import Delivery
from bridge.wakes.minutes import Minutes
from contract.clock import Clock
from infra.telemetry import HistogramFamily

MOST_STEPS = 32
MOST_SENT = 24
"""Steps of sockets: some are left for what came of it."""


BOUNDS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
AGES = HistogramFamily("sarvis_wake_age_seconds", "From the word to the bridge, as the device says", BOUNDS_S)
TO_SOCKET = HistogramFamily("sarvis_wake_to_socket_seconds", "From the bridge's receipt to the first socket", BOUNDS_S)
TO_ACK = HistogramFamily("sarvis_wake_to_ack_seconds", "From the bridge's receipt to an app's confirmation", BOUNDS_S)
"""Counted when stories are handed over, not while a wake is on its way."""


class StoryBook:
    """The wakes with news since they were last taken.

    Attributes:
        changed: by their id; all changes of a delivery put it here.
        ages_ms, to_socket_ms, to_ack_ms: what was measured since they were last taken.
        minutes: the last hour, without what was not taken yet.
    """

    def __init__(self, clock: Clock) -> None:
        self.changed: dict[str, Delivery] = {}
        self.ages_ms: list[float] = []
        self.to_socket_ms: list[float] = []
        self.to_ack_ms: list[float] = []
        self.minutes = Minutes(clock.utc_now().timestamp())
        self._clock = clock

    def note(self, delivery: Delivery, what: str, *details: object) -> None:
        """Something happened to a wake; beyond 32 steps it is not noted."""
        steps = delivery.steps
        if steps is not None and len(steps) < MOST_STEPS:
            steps.append((self._clock.monotonic(), what, *details))
            self.changed[delivery.wake.id] = delivery

    def acked_again(self, delivery: Delivery, what: str, label: str, how: object) -> None:
        """A confirmation that is not the first of the wake; each app's is noted once."""
        if all(step[1] not in {"acked", "acked_late"} or step[2] != label for step in delivery.steps or ()):
            self.note(delivery, what, label, how)

    def closed(self, delivery: Delivery, label: str, code: int) -> None:
        """A socket of its user was closed while it rang; noted if it had been sent there."""
        if any(step[1] in {"queued", "not_queued"} and step[2] == label for step in delivery.steps or ()):
            self.note(delivery, "closed", label, code)

    def take(self) -> list[StoryFields]:
        """The stories with news since the last call; to be written before anything else happens to the wakes."""
        if not self.changed:
            return []
        stories: list[StoryFields] = [
            (
                wake.id, wake.uid, one.device_id, one.received_on, one.received_at, wake.age_ms,
                wake.ttl_ms, wake.score, wake.model, one.state, one.status, one.latency_ms,
                one.steps,
            )
            for one in self.changed.values() for wake in (one.wake,)
        ]  # fmt: skip
        self.changed.clear()
        self.minutes.add(self._clock.utc_now().timestamp(), len(self.ages_ms), self.to_ack_ms)
        AGES.observe_ms(self.ages_ms)
        TO_SOCKET.observe_ms(self.to_socket_ms)
        TO_ACK.observe_ms(self.to_ack_ms)
        return stories
