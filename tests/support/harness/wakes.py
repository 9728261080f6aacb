"""Several bridges' relays, a device and phones in simulated time; messages between them come late, or not at all."""

import json
import random
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Any, cast

from bridge.apps.connection import AppConnection
from bridge.apps.hub import Hub
from bridge.apps.protocol import FRAMES
from bridge.cluster.peers import Peers
from bridge.wakes.delivery import Delivery
from bridge.wakes.relay import Relay
from bridge.wakes.shared import SharedWakes
from contract.app_socket import Mode
from contract.messages import Outcome, OutcomeStatus, Seek, Wake
from tests.support.clock import ManualClock

STEP_S = 0.05
LOOK_S = 0.5
REPEAT_S = 2.0


class FakePhone:
    """The side of a connection that a relay sees."""

    def __init__(self, uid: str, mode: Mode = "v2") -> None:
        self.uid = uid
        self.mode = mode
        self.has_room = True
        self.label = uid
        self.ended = 0
        self.frames = FRAMES[mode]
        self.got: list[dict[str, Any]] = []

    def send(self, frame: str) -> bool:
        self.got.append(json.loads(frame))
        return True

    def rung(self) -> list[str]:
        """The ids of the wakes that it got, in order; empty ones on the documented protocol."""
        return [frame.get("id", "") for frame in self.got if frame["type"] == "voice_command"]


class OneBridge:
    """A bridge's relay with its sockets, and what it told the device."""

    def __init__(self, town: "Town", name: str) -> None:
        self.name = name
        self.town = town
        self.alive = True
        self.hub: Hub[AppConnection] = Hub(8)
        self.users: dict[str, str] = {}
        self.looked_at = town.clock.monotonic()
        self.looks = True
        self.told: list[tuple[float, str, OutcomeStatus]] = []
        self.pushed: list[Delivery] = []
        self.others: tuple[str, ...] = ()
        self.around = False
        self.connected_since = town.clock.monotonic()
        self.relay = Relay(
            self.hub,
            town.clock,
            tell=self._tell,
            mirror=lambda _wake: True,
            user_of=self.users.get,
            strict=town.strict,
            tell_bridges=self._tell_bridges,
            push=lambda delivery, _on_accepted: self.pushed.append(delivery),
        )
        self.wakes = SharedWakes(
            self.relay,
            self.hub,
            town.clock,
            me=name,
            peers=lambda: Peers(name, self.others, around=self.around),
            looked_at=lambda: self.looked_at,
            seek=self._seek,
            answer=lambda: None,
            connected_since=lambda: self.connected_since,
        )

    def phone(self, uid: str = "alice", mode: Mode = "v2") -> FakePhone:
        """A phone connects."""
        phone = FakePhone(uid, mode)
        connection = cast("AppConnection", phone)
        self.hub.join(uid, connection)
        self.wakes.connected(connection)
        return phone

    def loses_broker_for(self, seconds: float) -> None:
        """What it says meanwhile is lost."""

        def back() -> None:
            self.connected_since = self.town.clock.monotonic()

        self.connected_since = float("inf")
        self.town.later(seconds, back)

    def _tell(self, _device_id: str, outcome: bytes) -> bool:
        if self.connected_since > self.town.clock.monotonic():
            return False
        message = Outcome.decode(outcome)
        self.told.append((self.town.passed, message.id, message.status))
        self.town.later(self.town.quick(), lambda: self.town.device_hears(message))
        return True

    def _tell_bridges(self, device_id: str, wake_id: str, status: OutcomeStatus) -> None:
        """A broker gives what a bridge says to itself, too, and a bridge ignores that."""
        self.town.broadcast(
            lambda bridge: bridge.wakes.outcomes([(device_id, wake_id, status)]) if bridge is not self else None
        )

    def _seek(self, payload: bytes) -> bool:
        seek = Seek.decode(payload)
        if self.connected_since > self.town.clock.monotonic():
            return False
        self.town.sought += 1
        self.town.broadcast(lambda bridge: bridge.wakes.seek(self.name, seek))
        return True


class Town:
    """The bridges see each other, and look at the ledger every half second.

    Args:
        names: of the bridges.
        seed: of the delays of messages with QoS 0, at most `quick_s`.
        lost: whether a message with QoS 0 that is published now, in seconds since the start, is lost on one way.
    """

    def __init__(
        self,
        names: str = "ab",
        *,
        seed: int = 0,
        quick_s: float = 0.05,
        strict: bool = False,
        lost: Callable[[float], bool] = lambda _now: False,
    ) -> None:
        self.clock = ManualClock()
        self._start = self.clock.monotonic()
        self.strict = strict
        self.sought = 0
        self._random = random.Random(seed)  # noqa: S311 - no secret
        self._quick_s = quick_s
        self._lost = lost
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self.heard: list[OutcomeStatus] = []
        """The outcomes that the device heard."""
        self.bridges = {name: OneBridge(self, name) for name in names}
        for bridge in self.bridges.values():
            bridge.others = tuple(name for name in names if name != bridge.name)
        self._next_tick = 0.0

    @property
    def passed(self) -> float:
        """Seconds since the start."""
        return self.clock.monotonic() - self._start

    def quick(self) -> float:
        """How long a message with QoS 0 takes."""
        return self._random.uniform(0, self._quick_s)

    def later(self, seconds: float, what: Callable[[], None]) -> None:
        """It happens so much later."""
        heappush(self._due, (self.passed + seconds, next(self._numbers), what))

    def broadcast(self, tell: Callable[[OneBridge], None]) -> None:
        """A message with QoS 0 to every bridge that is alive then."""
        for bridge in self.bridges.values():
            if not self._lost(self.passed):
                self.later(self.quick(), lambda bridge=bridge: tell(bridge) if bridge.alive else None)  # type: ignore[misc]

    def device_hears(self, outcome: Outcome) -> None:
        """The device has an outcome."""
        if not self._lost(self.passed):
            self.heard.append(outcome.status)

    def wake(self, late: dict[str, float] | None = None, *, wake_id: str = "w1", uid: str = "alice") -> None:
        """The device recognises its word, and repeats it until it hears an outcome.

        `late`: how late each bridge hears the first; the repetitions are as quick as any message with QoS 0.
        """
        wake = Wake(id=wake_id, uid=uid, command="c", timestamp="t")
        for bridge in self.bridges.values():
            self.later((late or {}).get(bridge.name, 0.0), lambda bridge=bridge: self._take(bridge, wake))  # type: ignore[misc]
        for number in range(1, 5):
            age_s = number * REPEAT_S
            again = wake.model_copy(update={"age_ms": round(age_s * 1000)})
            self.later(age_s, lambda again=again: self._repeat(again))  # type: ignore[misc]

    def lives(self, seconds: float) -> None:
        """Time passes."""
        end = self.passed + seconds
        while self.passed < end - 1e-9:
            step = min(STEP_S, end - self.passed)
            if self._due and self._due[0][0] < self.passed + step:
                step = max(self._due[0][0] - self.passed, 0.0)
            self.clock.advance(step)
            while self._due and self._due[0][0] <= self.passed + 1e-9:
                heappop(self._due)[2]()
            self._tick()

    def _tick(self) -> None:
        ticks = self.passed >= self._next_tick
        if ticks:
            self._next_tick += LOOK_S
        for bridge in self.bridges.values():
            if bridge.alive:
                if ticks and bridge.looks:
                    bridge.looked_at = self.clock.monotonic()
                bridge.wakes.sweep()
                if ticks:
                    bridge.relay.tick()

    def _take(self, bridge: OneBridge, wake: Wake) -> None:
        if bridge.alive:
            bridge.wakes.wake("jetson", wake)

    def _repeat(self, wake: Wake) -> None:
        if not self.heard:
            self.broadcast(lambda bridge: self._take(bridge, wake))

    def told(self) -> list[tuple[str, OutcomeStatus]]:
        """What the bridges told the device, in order."""
        told = [(at, bridge.name, status) for bridge in self.bridges.values() for at, _, status in bridge.told]
        return [(name, status) for _, name, status in sorted(told)]
