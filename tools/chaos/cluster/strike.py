"""Carries out one fault on several bridges, their database or the nodes of their broker."""

import signal
import time
from collections.abc import Callable

from tests.support.proxy import Direction, Verdict
from tests.support.waiting import wait_for
from tests.support.world import accepts
from tools.chaos.cluster.house import SEEN_WITHIN_S, ClusterHouse, Node
from tools.chaos.house import TARGET, eventually, kill
from tools.chaos.links import Armed, Links
from tools.chaos.plan import ClusterFault, Plan
from tools.chaos.strike import BRIDGE_POINTS, EDGE_POINTS

LEADER_LOST_S = 10.0
"""So long a cluster of NATS may hold messages of QoS 1 when a node of it is killed."""
SETTLES_S = 1.0
ENDS_WITHIN_S = 25.0


class ClusterStrike:
    """One fault of one round. The victim is the bridge that says the log-out, or another one; see `Plan.variant`.

    Args:
        cut_apps: cuts the sockets of all apps at a bridge.

    Attributes:
        hit_at: wall-clock time at which it hit, None while it has not.
        extra_s: for how long the edge could do nothing because it was stopped.
    """

    def __init__(self, house: ClusterHouse, plan: Plan, cut_apps: Callable[[str], None]) -> None:
        self.hit_at: float | None = None
        self.extra_s = 0.0
        self._house = house
        self._plan = plan
        self._cut_apps = cut_apps
        self._hit_mono = 0.0
        self._armed: Armed | None = None
        self._point: str | None = None
        self._victim = house.names[plan.variant % len(house.names)]
        self._node: Node = house.nodes[plan.variant % len(house.nodes)]

    def arm(self) -> None:
        """Get ready; a fault at random moments is struck by `strike_now`."""
        plan = self._plan
        if plan.at_random:
            return
        points = {("kill bridge", "decided"): BRIDGE_POINTS, ("kill edge", "sent"): EDGE_POINTS}.get(
            (plan.fault, plan.phase), ()
        )
        if points and plan.variant % 3 < len(points) and not (plan.cause == "replaced" and plan.phase == "decided"):
            self._point = points[plan.variant % 3]
            (self._house.flags / self._point).touch()
            return
        links, direction, kind = self._place()
        self._armed = links.when(direction, kind, self._strike, device=TARGET)

    def wait(self, within_s: float) -> bool:
        """Did it hit in time? Disarmed when not."""
        if self._point is not None:
            return self._died(self._point, within_s)
        if self._armed is not None and self._armed.wait(within_s):
            return True
        return self.hit_at is not None

    def strike_now(self) -> None:
        """For a fault at a random moment."""
        self._strike(b"")

    def heal(self) -> None:
        """End what lasts, start again what was killed; note what it may have delayed."""
        if self.hit_at is None:
            return
        house, fault, victim = self._house, self._plan.fault, self._victim
        time.sleep(max(0.0, self._hit_mono + self._lasts_s - time.monotonic()))
        match fault:
            case "kill bridge" | "drain bridge":
                house.bridges[victim].process.wait(ENDS_WITHIN_S)
                house.bridge_restarts(victim)
            case "stop bridge":
                house.bridges[victim].process.send_signal(signal.SIGCONT)
            case "kill edge":
                house.edge_restarts(died_at=self.hit_at)
            case "kill node":
                self._node.start()
                wait_for("all nodes listen", lambda: all(accepts(node.port) for node in house.nodes))
                time.sleep(SETTLES_S)
            case "kill database":
                house.server.start()
            case "stall ledger":
                house.gates[victim].flow()
            case _:
                pass
        for links in (house.at_bridge, house.at_edge):
            links.heal()
        lasted_s = time.monotonic() - self._hit_mono
        house.hurt(fault, "all" if fault in {"kill node", "kill database"} else victim, self.hit_at)
        house.down_s += lasted_s + {
            "kill node": LEADER_LOST_S,
            "kill database": house.times.restart_costs_s + SEEN_WITHIN_S,
            "kill edge": 0.0,
            "cut apps": 0.0,
        }.get(fault, SEEN_WITHIN_S)

    @property
    def _lasts_s(self) -> float:
        """A bridge that is stopped in its turn longer than 2 s has lost it."""
        longer = {"stop bridge": 2.5, "stall ledger": 2.5, "kill node": 2.0}
        return self._plan.lasts_s * longer.get(self._plan.fault, 1.0)

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

    def _died(self, point: str, within_s: float) -> bool:
        died = self._house.flags / f"{point}.died"
        if not eventually("the process dies at its fault point", died.exists, within_s):
            (self._house.flags / point).unlink(missing_ok=True)
            if not died.exists():
                return False
        if point in BRIDGE_POINTS:
            self._victim = self._house.name_of(int(died.read_text()))
        self._note(died.stat().st_mtime)
        died.unlink()
        return True

    def _note(self, at: float) -> None:
        self.hit_at = at
        self._hit_mono = time.monotonic() - (time.time() - at)

    def _strike(self, _packet: bytes) -> Verdict:
        """Begin; what is to become of the packet at which it hit."""
        self._note(time.time())
        house, plan = self._house, self._plan
        speaks = house.name_at(self._armed.at) if self._armed is not None and self._armed.at is not None else None
        if speaks is not None and plan.variant % 3:
            self._victim = speaks
        victim = self._victim
        begin: dict[ClusterFault, Callable[[], object]] = {
            "kill bridge": lambda: self._note(house.kill_bridge(victim)),
            "drain bridge": house.bridges[victim].process.terminate,
            "kill edge": lambda: self._note(kill(house.edges[TARGET])),
            "stop bridge": lambda: house.bridges[victim].process.send_signal(signal.SIGSTOP),
            "half-open": lambda: house.links[victim].half_open(on=True),
            "delay": lambda: house.links[victim].delay(0.2 + plan.lasts_s / 2),
            "drop": lambda: None,
            "kill node": self._node.kill,
            "kill database": house.crash_database,
            "stall ledger": house.gates[victim].stall,
            "cut ledger": house.gates[victim].cut,
            "cut apps": lambda: self._cut_apps(victim),
        }
        begin[plan.fault]()  # type: ignore[index]
        drops = plan.fault == "drop" or (plan.fault != "delay" and plan.variant % 2)
        return "drop" if drops else "forward"
