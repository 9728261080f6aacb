"""Carries out one fault: arms it, notes when it hit, heals it."""

import signal
import time
from collections.abc import Callable

from tests.support.mqtt_packets import as_qos_0
from tests.support.proxy import Direction, Verdict
from tools.chaos.house import TARGET, House, eventually, kill
from tools.chaos.links import Armed, Links
from tools.chaos.plan import ClusterFault, Fault, Plan

BRIDGE_POINTS = ("bridge.before_commit", "bridge.after_commit")
EDGE_POINTS = ("edge.before_store", "edge.after_store")


class Strike:
    """One fault of one round.

    Attributes:
        hit_at: wall-clock time at which it hit, None while it has not.
    """

    def __init__(self, house: House, plan: Plan) -> None:
        self.hit_at: float | None = None
        self.extra_s = 0.0
        """For how long the edge could do nothing because it was stopped."""
        self._house = house
        self._plan = plan
        self._hit_mono = 0.0
        self._trigger: Armed | None = None
        self._point: str | None = None
        self._login = b""
        self._proxy: Links = house.at_edge

    def arm(self) -> None:
        """Get ready; a fault at random moments is struck by `strike_now`."""
        plan = self._plan
        points = {("kill bridge", "decided"): BRIDGE_POINTS, ("kill edge", "sent"): EDGE_POINTS}.get(
            (plan.fault, plan.phase), ()
        )
        self._proxy, direction, kind = self._place()
        if plan.fault == "late login":
            self._hold_a_login()
        if plan.at_random:
            return
        if points and plan.variant % 3 < len(points) and not (plan.cause == "replaced" and plan.phase == "decided"):
            self._point = points[plan.variant % 3]
            (self._house.flags / self._point).touch()
        else:
            self._trigger = self._proxy.when(direction, kind, self._strike, device=TARGET)

    def wait(self, within_s: float) -> bool:
        """Did it hit in time? Disarmed when not."""
        if self._point is not None:
            died = self._house.flags / f"{self._point}.died"
            if eventually("the process dies at its fault point", died.exists, within_s):
                process = self._house.bridge if self._point.startswith("bridge") else self._house.edges[TARGET]
                process.process.wait()
                self._note(died.stat().st_mtime)
                died.unlink()
                return True
            (self._house.flags / self._point).unlink(missing_ok=True)
            return died.exists()
        if self._trigger is not None and self._trigger.wait(within_s):
            return True
        return self.hit_at is not None

    def strike_now(self) -> None:
        """For a fault at a random moment."""
        self._strike(b"")

    def heal(self) -> None:
        """End what lasts, start again what was killed."""
        if self.hit_at is None:
            return
        house, fault = self._house, self._plan.fault
        cut_off_s = house.times.timeout_s + house.times.grace_s + 1.0
        lasts_s = cut_off_s if fault == "cut off" else self._plan.lasts_s
        time.sleep(max(0.0, self._hit_mono + lasts_s - time.monotonic()))
        if fault == "kill bridge":
            house.bridge_restarts(dead_since=self._hit_mono)
        elif fault == "kill broker":
            house.broker.start()
        elif fault == "kill edge":
            house.edge_restarts(died_at=self.hit_at)
        elif fault == "stop bridge":
            house.bridge.process.send_signal(signal.SIGCONT)
            house.down_s += time.monotonic() - self._hit_mono
        elif fault == "stop edge":
            house.edges[TARGET].process.send_signal(signal.SIGCONT)
            self.extra_s = time.monotonic() - self._hit_mono
        house.at_bridge.heal()
        house.at_edge.heal()

    def _place(self) -> tuple[Links, Direction, str]:
        """Where the packet passes at which the fault hits."""
        house = self._house
        match self._plan.phase:
            case "decided":
                return house.at_bridge, "up", "logout"
            case "sent":
                return house.at_edge, "down", "logout"
            case "done" if self._plan.variant % 2:
                return house.at_edge, "up", "ack"
            case "done":
                return house.at_bridge, "down", "ack"

    def _hold_a_login(self) -> None:
        """A renewal is kept back, to come when the session is over."""

        def hold(packet: bytes) -> Verdict:
            self._login = as_qos_0(packet)
            return "drop"

        trigger = self._house.at_edge.when("down", "login", hold, device=TARGET)
        assert trigger.wait(3 * self._house.times.timeout_s), "no renewal came"

    def _note(self, at: float) -> None:
        self.hit_at = at
        self._hit_mono = time.monotonic() - (time.time() - at)

    def _strike(self, _packet: bytes) -> Verdict:
        """Begin; what is to become of the packet at which it hit."""
        self._note(time.time())
        house, proxy = self._house, self._proxy
        begin: dict[Fault | ClusterFault, Callable[[], object]] = {
            "kill bridge": lambda: self._note(kill(house.bridge)),
            "kill broker": house.broker.kill,
            "kill edge": lambda: self._note(kill(house.edges[TARGET])),
            "reset": lambda: proxy.refuse(on=True),
            "half-open": lambda: proxy.half_open(on=True),
            "cut off": lambda: house.at_edge.half_open(on=True),
            "drop": lambda: None,
            "duplicate": lambda: proxy.duplicate(on=True),
            "delay": lambda: proxy.delay(0.2 + self._plan.lasts_s / 2),
            "stop bridge": lambda: house.bridge.process.send_signal(signal.SIGSTOP),
            "stop edge": lambda: house.edges[TARGET].process.send_signal(signal.SIGSTOP),
            "late login": lambda: house.at_edge.replay("down", self._login),
            "clock jump": lambda: house.bridge.process.send_signal(signal.SIGUSR1),
        }
        begin[self._plan.fault]()
        by_chance: Verdict = "drop" if self._plan.variant % 2 else "forward"
        verdicts: dict[Fault | ClusterFault, Verdict] = {
            "drop": "drop", "duplicate": "twice", "delay": "forward", "clock jump": "forward",
            "late login": "forward",
        }  # fmt: skip
        return verdicts.get(self._plan.fault, by_chance)
