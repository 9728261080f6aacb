"""Which fault hits which phase of a session's end, and how often so far."""

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal, get_args

Fault = Literal[
    "kill bridge",
    "kill broker",
    "kill edge",
    "reset",
    "half-open",
    "drop",
    "duplicate",
    "delay",
    "stop bridge",
    "stop edge",
    "clock jump",
    "cut off",
    "late login",
]
Phase = Literal["decided", "sent", "done"]
"""Where the fault hits: the end is due and its log-out not yet with the broker; on its way to the edge; executed, and
the edge's ack on its way to the bridge.
"""
Cause = Literal["timeout", "http", "app", "operator", "replaced"]

ClusterFault = Literal[
    "kill bridge",
    "kill edge",
    "stop bridge",
    "half-open",
    "drop",
    "delay",
    "kill node",
    "drain bridge",
    "kill database",
    "stall ledger",
    "cut ledger",
    "cut apps",
]
"""What several bridges, their database and the nodes of their broker can suffer."""

FAULTS: tuple[Fault, ...] = get_args(Fault)
CLUSTER_FAULTS: tuple[ClusterFault, ...] = get_args(ClusterFault)
PHASES: tuple[Phase, ...] = get_args(Phase)
CAUSES: tuple[Cause, ...] = get_args(Cause)


@dataclass(frozen=True)
class Plan:
    """One round."""

    number: int
    fault: Fault | ClusterFault
    phase: Phase
    cause: Cause
    lasts_s: float
    at_random: bool
    """Not at a chosen packet, but somewhere around the end."""
    variant: int


class Plans:
    """Gives out rounds so that all cells fill evenly; may be asked from several threads.

    Attributes:
        faults: of which it plans.
        hits: rounds whose fault landed, by (fault, phase) as it really was.
    """

    def __init__(self, rounds: int, seed: int, faults: Sequence[Fault | ClusterFault] = FAULTS) -> None:
        self.faults = faults
        self.hits: Counter[tuple[Fault | ClusterFault, Phase]] = Counter()
        self._wanted = rounds
        self._random = Random(seed)  # noqa: S311 - no secret
        self._under_way: Counter[tuple[Fault | ClusterFault, Phase]] = Counter()
        self._given = 0
        self._lock = threading.Lock()

    def next(self) -> Plan | None:
        """The next round; None when enough have landed or are under way, or far too many did not."""
        with self._lock:
            cells = [(fault, phase) for fault in self.faults for phase in PHASES]
            self._random.shuffle(cells)
            so_far = self.hits + self._under_way
            fault, phase = min(cells, key=lambda cell: so_far[cell])
            enough = so_far.total() >= self._wanted and so_far[fault, phase] >= self._wanted // len(cells)
            if enough or self._given >= 2 * self._wanted + 10:
                return None
            self._given += 1
            self._under_way[fault, phase] += 1
            return Plan(
                number=self._given,
                fault=fault,
                phase=phase,
                cause=self._random.choice(CAUSES),
                lasts_s=self._random.uniform(0.1, 1.5),
                at_random=fault.startswith("kill") and self._random.random() < 0.25,
                variant=self._random.randrange(1000),
            )

    def done(self, plan: Plan, landed: Phase | None) -> None:
        """The round is over; where its fault landed, or None."""
        with self._lock:
            self._under_way[plan.fault, plan.phase] -= 1
            if landed is not None:
                self.hits[plan.fault, landed] += 1
