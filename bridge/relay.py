"""From a wake to the sockets of its user, and its fate back to the device."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import Counter

from bridge.app_protocol import Frames
from bridge.connection import AppConnection
from bridge.hub import Hub
from contract.clock import Clock, iso
from contract.messages import LEGACY_DEVICE, Message, Outcome, OutcomeStatus, Wake
from contract.telemetry import REGISTRY, get_logger
from contract.topics import OUTCOME, WAKE, Topic

REMEMBERED_WAKES = 10_000

WAKES = Counter("sarvis_wakes_total", "Wakes by their first fate", ["status"], registry=REGISTRY)
ACKED = Counter("sarvis_wakes_acked_total", "Wakes that an app confirmed", registry=REGISTRY)

log = get_logger("relay")


@dataclass(slots=True)
class _Fate:
    status: OutcomeStatus
    device_id: str
    uid: str
    received_at: float
    latency_ms: float


class Relay:
    """Delivers each wake once to every socket of its user.

    Args:
        send: publishes a message to a device; False when no broker is reached.
        user_of: the user logged in on a device, if any.
    """

    def __init__(
        self,
        hub: Hub[AppConnection],
        clock: Clock,
        *,
        send: Callable[[Topic, str, Message], bool],
        user_of: Callable[[str], str | None],
    ) -> None:
        self._hub = hub
        self._clock = clock
        self._send = send
        self._user_of = user_of
        self._fates: OrderedDict[str, _Fate] = OrderedDict()

    def wake(self, device_id: str, wake: Wake) -> None:
        """A device heard its word. A wake that came before gets its fate again and rings nobody."""
        if device_id == LEGACY_DEVICE:
            return  # our own mirror of the HTTP trigger
        fate = self._fates.get(wake.id)
        if fate is None:
            fate = self._decide(device_id, wake)
        elif fate.device_id != device_id:
            log.warning("wake_id_of_another_device", device_id=device_id)
            return
        self._send(OUTCOME, device_id, Outcome(id=wake.id, status=fate.status, latency_ms=fate.latency_ms))

    def trigger(self, wake: Wake) -> bool:
        """The legacy HTTP trigger; True when at least one socket took it."""
        fate = self._decide(LEGACY_DEVICE, wake)
        self._send(WAKE, LEGACY_DEVICE, wake)
        return fate.status == "sent"

    def acked(self, uid: str, wake_id: str) -> None:
        """An app of this user rang for the wake; the first one counts."""
        fate = self._fates.get(wake_id)
        if fate is None or fate.uid != uid or fate.status != "sent":
            return
        fate.status = "acked"
        fate.latency_ms = self._since(fate.received_at)
        ACKED.inc()
        if fate.device_id != LEGACY_DEVICE:
            self._send(OUTCOME, fate.device_id, Outcome(id=wake_id, status="acked", latency_ms=fate.latency_ms))

    def _decide(self, device_id: str, wake: Wake) -> _Fate:
        received_at = self._clock.monotonic()
        status: OutcomeStatus
        if wake.age_ms >= wake.ttl_ms:
            status = "expired"
        elif device_id != LEGACY_DEVICE and self._user_of(device_id) not in {None, wake.uid}:
            status = "rejected"
        elif self._deliver(device_id, wake):
            status = "sent"
        else:
            status = "user_not_connected"
        fate = _Fate(status, device_id, wake.uid, received_at, self._since(received_at))
        self._fates[wake.id] = fate
        if len(self._fates) > REMEMBERED_WAKES:
            self._fates.popitem(last=False)
        WAKES.labels(status).inc()
        log.info("wake", device_id=device_id, uid=wake.uid, outcome=status, latency_ms=fate.latency_ms)
        return fate

    def _deliver(self, device_id: str, wake: Wake) -> int:
        """Queue the frame at each socket; how many took it."""
        timestamp = iso(self._clock.utc_now())
        taken = 0
        frames: dict[str, str] = {}
        for connection in self._hub.of(wake.uid):
            if connection.mode not in frames:
                frames[connection.mode] = Frames(connection.mode).voice_command(
                    wake.command, timestamp, wake_id=wake.id, device_id=device_id, ttl_ms=wake.ttl_ms
                )
            taken += connection.send(frames[connection.mode])
        return taken

    def _since(self, received_at: float) -> float:
        return round((self._clock.monotonic() - received_at) * 1000, 3)
