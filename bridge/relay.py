"""From a wake to the sockets of its user, and its fate back to the device."""

from collections import deque
from collections.abc import Callable, Iterable

from prometheus_client import Counter

from bridge.app_protocol import FRAMES
from bridge.hub import Hub
from bridge.rows import Change, Missed
from bridge.wakes import Fate, Wakes
from bridge.websocket.connection import AppConnection
from contract.clock import Clock, Stamps
from contract.messages import LEGACY_DEVICE, OutcomeStatus, Wake, encode_outcome
from contract.quick_wake import QuickWake
from contract.telemetry import REGISTRY, Tally, get_logger

FIRST = ("sent", "expired", "user_not_connected", "rejected")
WAKES = Tally("sarvis_wakes", "Wakes by their first fate", "status", FIRST).counts
ACKED = Tally("sarvis_wakes_acked", "Wakes that an app confirmed").counts
LATE_ACKS = Counter(
    "sarvis_wakes_acked_late_total", "Confirmations that came after the end of their wake", registry=REGISTRY
)
PUSHED = Counter("sarvis_wakes_pushed_total", "Wakes that a push service took for a phone", registry=REGISTRY)

log = get_logger("relay")


class Relay:
    """Delivers each wake to every socket of its user while it lives.

    A socket on the documented protocol gets it once, if it is there when the wake comes. One on sarvis.v2 gets it also
    when it connects within the wake's life, and again every 2 s until some socket confirms.

    Args:
        tell: publishes an encoded outcome to a device; False when no broker is reached.
        mirror: shows operators an encoded wake that came by HTTP.
        user_of: the user logged in on a device, if any.
        strict: credentials are required: a device rings nobody but the user who is logged in there.
        push: begins to push a wake to the user's sleeping phones; ends with `pushed` when that went well.
    """

    def __init__(
        self,
        hub: Hub[AppConnection],
        clock: Clock,
        *,
        tell: Callable[[str, bytes], bool],
        mirror: Callable[[bytes], bool],
        user_of: Callable[[str], str | None],
        strict: bool = False,
        push: Callable[[Fate], None] | None = None,
    ) -> None:
        self._hub = hub
        self._clock = clock
        self._stamps = Stamps(clock)
        self._tell = tell
        self._mirror = mirror
        self._user_of = user_of
        self._strict = strict
        self._push = push
        self._wakes = Wakes()

    def wake(self, device_id: str, wake: Wake | QuickWake) -> None:
        """A device heard its word. A wake that came before gets its fate again and rings nobody anew."""
        if device_id == LEGACY_DEVICE:
            return  # our own mirror of the HTTP trigger
        fate = self._wakes.known(wake.id)
        if fate is None:
            fate = self._begin(device_id, wake)
        elif fate.device_id != device_id:
            log.warning("wake_id_of_another_device", device_id=device_id)
            return
        self._tell_device(fate)

    def trigger(self, wake: Wake | QuickWake) -> bool:
        """The legacy HTTP trigger; True when at least one socket took it."""
        fate = self._begin(LEGACY_DEVICE, wake)
        self._mirror(wake.encode())
        return fate.status == "sent"

    def acked(self, uid: str, wake_id: str) -> None:
        """An app of this user rang for the wake; the first one counts, and none after the wake's end."""
        fate = self._wakes.known(wake_id)
        if fate is None or fate.wake.uid != uid or fate.status not in {"sent", "pushed"}:
            return
        if fate.expires_at <= self._clock.monotonic():
            LATE_ACKS.inc()  # whoever rings now rings for what is over: it is missed
            return
        self._wakes.settled(fate)
        self._change(fate, "acked")
        ACKED[""] += 1
        self._tell_device(fate)

    def seen(self, connection: AppConnection, wake_id: str) -> None:
        """The person has answered with the app of this socket: the user's others, on sarvis.v2, are told."""
        fate = self._wakes.known(wake_id)
        if fate is None or fate.wake.uid != connection.uid:
            return
        frame = FRAMES["v2"].wake_seen(self._stamps.now(), wake_id)
        for other in self._hub.of(connection.uid):
            if frame is not None and other is not connection and other.mode == "v2" and other.has_room:
                other.send(frame)

    def pushed(self, fate: Fate) -> None:
        """A push service took the wake for a phone of the user; told once, and not after somebody took it."""
        if fate.taken or fate.status == "pushed":
            return
        self._change(fate, "pushed")
        PUSHED.inc()
        log.info("wake_pushed", device_id=fate.device_id, uid=fate.wake.uid, latency_ms=fate.latency_ms)
        self._tell_device(fate)

    def connected(self, connection: AppConnection) -> None:
        """A socket joined: on sarvis.v2 it hears what still rings for its user."""
        for fate in self._wakes.living_of(connection.uid, self._clock.monotonic()):
            if self._deliver(fate, _can_repeat([connection])) and fate.status == "user_not_connected":
                self._change(fate, "sent")
                self._tell_device(fate)

    @property
    def unsaved(self) -> deque[Change]:
        """What changed among the missed wakes and is not on disk; whoever stores it takes it out."""
        return self._wakes.unsaved

    def load_missed(self, missed: Iterable[Missed]) -> None:
        """Wakes that nobody took before this bridge started, oldest first."""
        self._wakes.load_missed(missed)

    def missed(self, uid: str) -> list[Missed]:
        """What nobody took since the user's last connection, newest last; asked once per connection."""
        return self._wakes.take_missed(uid)

    def left(self, uid: str) -> None:
        """The user is logged out: nothing rings for them any more."""
        for fate in self._wakes.living_of(uid, self._clock.monotonic()):
            self._wakes.settled(fate)

    def tick(self) -> None:
        """Ring again where nobody has confirmed, push where nobody took it; call at least every second."""
        now = self._clock.monotonic()
        for fate in self._wakes.due_again(now):
            if sockets := _can_repeat(self._hub.of(fate.wake.uid)):
                self._deliver(fate, sockets)
        if self._push is not None:
            for fate in self._wakes.due_for_push(now):
                self._push(fate)

    def _begin(self, device_id: str, wake: Wake | QuickWake) -> Fate:
        now = self._clock.monotonic()
        expires_at = now + (wake.ttl_ms - wake.age_ms) / 1000
        fate = Fate(wake, device_id, "user_not_connected", now, expires_at, self._stamps.now())
        if wake.age_ms >= wake.ttl_ms:
            fate.status = "expired"
        elif device_id != LEGACY_DEVICE and not self._may_ring(device_id, wake.uid):
            fate.status = "rejected"
        elif self._deliver(fate, self._hub.of(wake.uid)):
            fate.status = "sent"
        self._wakes.remember(fate)
        self._change(fate, fate.status)
        WAKES[fate.status] += 1
        if fate.status != "sent":
            log.info("nobody_rung", device_id=device_id, uid=wake.uid, outcome=fate.status)
        return fate

    def _may_ring(self, device_id: str, uid: str) -> bool:
        user = self._user_of(device_id)
        return user == uid or (user is None and not self._strict)

    def _deliver(self, fate: Fate, sockets: Iterable[AppConnection]) -> int:
        """Queue the frame at each socket; how many took it."""
        wake = fate.wake
        now = self._clock.monotonic()
        taken = 0
        frames: dict[str, str] = {}
        for socket in sockets:
            mode = socket.mode
            frame = frames.get(mode)
            if frame is None:
                frame = frames[mode] = FRAMES[mode].voice_command(
                    wake.command,
                    self._stamps.now(),
                    wake_id=wake.id,
                    device_id=fate.device_id,
                    ttl_ms=wake.ttl_ms,
                    age_ms=wake.age_ms + int((now - fate.received_at) * 1000),
                    received_at=fate.received_on,
                    clock_ms=int(now * 1000),
                )
            if socket.send(frame):
                taken += 1
                fate.taken |= mode == "legacy"
        return taken

    def _change(self, fate: Fate, status: OutcomeStatus) -> None:
        fate.status = status
        fate.latency_ms = round((self._clock.monotonic() - fate.received_at) * 1000, 3)

    def _tell_device(self, fate: Fate) -> None:
        if fate.device_id != LEGACY_DEVICE:
            self._tell(fate.device_id, encode_outcome(fate.wake.id, fate.status, fate.latency_ms))


def _can_repeat(sockets: Iterable[AppConnection]) -> list[AppConnection]:
    """Those that know ids, and for which a repetition is not what makes them too slow."""
    return [socket for socket in sockets if socket.mode == "v2" and socket.has_room]
