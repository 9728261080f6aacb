"""Delivers a wake to the sockets of its user, and the outcome to the device."""

from collections.abc import Callable, Iterable, Sequence

from prometheus_client import Counter

from bridge.apps.connection import AppConnection
from bridge.apps.hub import Hub
from bridge.apps.protocol import FRAMES, How
from bridge.storage.records import Change, Missed
from bridge.stories.records import Step
from bridge.wakes.delivery import FATES, Deliveries, Delivery, First, Reach, Watch, WatchedDeliveries, received
from bridge.wakes.missed import MissedWakes
from bridge.wakes.story import MOST_SENT, MOST_STEPS, StoryBook
from contract.clock import Clock, Stamps
from contract.messages import LEGACY_DEVICE, OutcomeStatus, Wake, encode_outcome
from contract.wake_codec import QuickWake
from infra.telemetry import REGISTRY, CounterFamily, get_logger

TAKEN_BY_SOCKET = frozenset({"sent", "acked"})
FIRST = ("sent", "expired", "user_not_connected", "rejected")
WAKES = CounterFamily("sarvis_wakes", "Deliveries by their first outcome", "status", FIRST).counts
ACKED = CounterFamily("sarvis_wakes_acked", "Deliveries that an app confirmed").counts
SETTLED = CounterFamily("sarvis_wakes_settled", "What became of wakes in the end", "fate", FATES).counts
REFUSED = CounterFamily(
    "sarvis_wakes_refused", "Wakes that were not to ring", "why", ("stale", "no_user", "other_user", "foreign_id")
).counts
LATE_ACKS = Counter(
    "sarvis_wakes_acked_late_total", "Confirmations that came after the end of their wake", registry=REGISTRY
)
PUSHED = Counter("sarvis_wakes_pushed_total", "Deliveries that a push service accepted for a phone", registry=REGISTRY)

log = get_logger("relay")


class Relay:
    """Delivers each wake to every socket of its user during its life.

    A socket in the documented protocol gets it once, if it is connected when the wake comes. One in sarvis.v2 also gets
    it when it connects within the wake's life, and again every 2 s until some socket confirms.

    Args:
        tell: publishes an encoded outcome to a device; False if no broker is reached.
        mirror: publishes an encoded HTTP wake for operators.
        user_of: the user logged in on a device, if any.
        tell_bridges: lets other bridges know what the device of this wake was told; None if there can be none.
        strict: credentials are required: a device rings only the user who is logged in there.
        push: starts a push of a wake to the user's sleeping phones; calls the function that it is given on success.
        book: notes what happens to each wake; None if stories are off.
        watch: called for each change of a wake, see `WatchedDeliveries`.
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
        tell_bridges: Callable[[str, str, OutcomeStatus], None] | None = None,
        push: Callable[[Delivery, Callable[[Delivery], None]], None] | None = None,
        book: StoryBook | None = None,
        watch: Watch | None = None,
    ) -> None:
        self._hub = hub
        self._clock = clock
        self._stamps = Stamps(clock)
        self._tell = tell
        self._mirror = mirror
        self._user_of = user_of
        self._strict = strict
        self._tell_bridges = tell_bridges
        self._push = push
        self._book = book
        self._missed = MissedWakes()
        changed = None if book is None else book.changed
        self._deliveries = (
            Deliveries(self._missed, changed, SETTLED)
            if watch is None
            else WatchedDeliveries(self._missed, changed, SETTLED, watch=watch)
        )

    def wake(self, device_id: str, wake: Wake | QuickWake) -> None:
        """A device recognised its word. A repeated wake gets its outcome again and does not ring again."""
        if device_id == LEGACY_DEVICE:
            return  # our own mirror of the HTTP trigger
        delivery = self._deliveries.known(wake.id)
        if delivery is None:
            self.begin(self.received(device_id, wake))
        else:
            self.copy(delivery, device_id, wake)

    def known(self, wake_id: str) -> Delivery | None:
        """A wake that rang here, or of which this bridge said that it rings nowhere."""
        return self._deliveries.known(wake_id)

    def received(self, device_id: str, wake: Wake | QuickWake) -> Delivery:
        """A wake that comes now; it is not recorded yet."""
        steps: list[Step] | None = None if self._book is None else []
        return received(wake, device_id, self._clock.monotonic(), self._stamps.now(), steps)

    def copy(self, delivery: Delivery, device_id: str, wake: Wake | QuickWake) -> None:
        """A known wake came again: the device gets its outcome again."""
        if delivery.device_id != device_id:
            self.foreign_id(device_id)
            self._note(delivery, "foreign_id", device_id)
            return
        self._deliveries.repeated(delivery, wake.age_ms, self._clock.monotonic())
        self._note(delivery, "copy")
        self._tell_device(delivery)

    def tell_again(self, delivery: Delivery) -> None:
        """Another bridge asks for a wake that rings here."""
        self._tell_device(delivery)

    def foreign_id(self, device_id: str) -> None:
        """A device sent a wake with the id of another device's."""
        log.warning("wake_id_of_another_device", device_id=device_id)
        REFUSED["foreign_id"] += 1

    def begin(self, delivery: Delivery) -> None:
        """Ring a received wake, or say why it does not ring."""
        if not self.ring(delivery):
            self.refuse(delivery)

    def elsewhere(self, delivery: Delivery, status: OutcomeStatus) -> None:
        """Another bridge told the device this outcome of a wake that is known here."""
        self._deliveries.elsewhere(delivery, status, self._clock.monotonic())

    def trigger(self, wake: Wake | QuickWake) -> bool:
        """The legacy HTTP trigger; True if at least one socket accepted it. A known wake does not ring again."""
        known = self._deliveries.known(wake.id)
        if known is not None:
            return known.status in TAKEN_BY_SOCKET
        delivery = self.received(LEGACY_DEVICE, wake)
        self.begin(delivery)
        self.mirror(wake)
        return delivery.status == "sent"

    def mirror(self, wake: Wake | QuickWake) -> None:
        """Show an HTTP wake to operators."""
        self._mirror(wake.encode())

    def acked(self, uid: str, wake_id: str, label: str = "", how: How | None = None) -> None:
        """An app of this user rang for the wake; the first confirmation counts, and none after the wake's end.

        `label` is that of its socket, `how` what it says about how it rang.
        """
        delivery = self._deliveries.known(wake_id)
        if delivery is None or delivery.wake.uid != uid:
            return
        now = self._clock.monotonic()
        confirmation = self._deliveries.acked(delivery, now)
        if confirmation == "counts":
            ACKED[""] += 1
            book, steps = self._book, delivery.steps
            if book is not None and steps is not None:
                book.to_ack_ms.append(delivery.latency_ms)
                if len(steps) < MOST_STEPS:
                    steps.append((now, "acked", label, how))
            self._tell_device(delivery)
            return
        if confirmation == "late":
            LATE_ACKS.inc()
        if self._book is not None:
            self._book.acked_again(delivery, "acked_late" if confirmation == "late" else "acked", label, how)

    def seen(self, connection: AppConnection, wake_id: str) -> None:
        """The user has answered with the app of this socket: the user's other apps, in sarvis.v2, receive that."""
        delivery = self._deliveries.known(wake_id)
        if delivery is None or delivery.wake.uid != connection.uid:
            return
        frame = FRAMES["v2"].wake_seen(self._stamps.now(), wake_id)
        for other in self._hub.of(connection.uid):
            if frame is not None and other is not connection and other.mode == "v2" and other.has_room:
                other.send(frame)

    def pushed(self, delivery: Delivery) -> None:
        """A push service accepted the wake for a phone of the user; reported once, and not after an app accepted it."""
        if not self._deliveries.pushed(delivery, self._clock.monotonic()):
            return
        PUSHED.inc()
        log.info("wake_pushed", device_id=delivery.device_id, uid=delivery.wake.uid, latency_ms=delivery.latency_ms)
        self._tell_device(delivery)

    def connected(self, connection: AppConnection) -> None:
        """A socket joined: in sarvis.v2 it receives the wakes that still ring for its user."""
        for delivery in self._deliveries.living_of(connection.uid, self._clock.monotonic()):
            self._deliver_again(delivery, [connection], "queued")

    def closed(self, connection: AppConnection) -> None:
        """A socket was closed: noted in the wakes that ring for its user."""
        if self._book is not None:
            for delivery in self._deliveries.living_of(connection.uid, self._clock.monotonic()):
                self._book.closed(delivery, connection.label, connection.ended)

    def take_unsaved(self) -> list[Change]:
        """The unsaved changes of missed wakes; a caller that cannot store them puts them back."""
        return self._missed.take_unsaved()

    def put_back(self, taken: Iterable[Change]) -> None:
        """The taken changes were not stored."""
        self._missed.put_back(taken)

    def missed(self, uid: str, stored: Sequence[Missed]) -> list[Missed]:
        """The wakes that the user missed since the last connection, newest last; call it once per connection.

        `stored` is what the ledger has of them, oldest first.
        """
        return self._missed.take(uid, stored)

    def left(self, uid: str) -> None:
        """The user is logged out: stop ringing."""
        self._deliveries.logged_out(uid, self._clock.monotonic())

    def forget(self, uid: str, name: str) -> None:
        """Put `name` in the place of a user who is logged out; raises nothing."""
        self.tick()  # what has just expired is missed, and not over only in the next moment
        self._missed.forget(uid)
        self._deliveries.forget(uid, name)

    def rings(self, uid: str) -> bool:
        """Whether a wake of the user rings that no app has confirmed."""
        return bool(self._deliveries.living_of(uid, self._clock.monotonic()))

    def tick(self) -> None:
        """Repeat unconfirmed wakes, push those that no socket accepted; call at least every second."""
        now = self._clock.monotonic()
        for delivery in self._deliveries.due_again(now):
            self._deliver_again(delivery, self._hub.of(delivery.wake.uid), "again")
        if self._push is not None:
            for delivery in self._deliveries.due_for_push(now):
                self._push(delivery, self.pushed)

    def ring(self, delivery: Delivery, sockets: Sequence[AppConnection] | None = None) -> bool:
        """Whether a received wake rings now, at these sockets or all of its user; else nothing is recorded."""
        now = self._clock.monotonic()
        wake = delivery.wake
        device_id = delivery.device_id
        if delivery.expires_at <= now or (device_id != LEGACY_DEVICE and not self._may_ring(device_id, wake.uid)):
            return False
        reach = self._deliver(delivery, self._hub.of(wake.uid) if sockets is None else sockets, now, "queued")
        if reach == "unreached":
            return False
        self._record(delivery, reach)
        if self._book is not None:
            self._book.to_socket_ms.append(delivery.latency_ms)
        self._tell_device(delivery)
        return True

    def refuse(self, delivery: Delivery) -> None:
        """Record a received wake that does not ring, and say why."""
        first: First = "unreached"
        if delivery.expires_at <= self._clock.monotonic():
            first = "stale"
            REFUSED["stale"] += 1
            SETTLED["expired"] += 1
            self._note(delivery, "refused", "stale", None)
        elif delivery.device_id != LEGACY_DEVICE and not self._may_ring(delivery.device_id, delivery.wake.uid):
            first = "refused"
            user = self._user_of(delivery.device_id)
            why = "no_user" if user is None else "other_user"
            REFUSED[why] += 1
            SETTLED["rejected"] += 1
            self._note(delivery, "refused", why, user)
        self._record(delivery, first)
        log.info("nobody_rung", device_id=delivery.device_id, uid=delivery.wake.uid, outcome=delivery.status)
        self._tell_device(delivery)

    def _record(self, delivery: Delivery, first: First) -> None:
        self._deliveries.add(delivery, first, self._clock.monotonic())
        WAKES[delivery.status] += 1
        if self._book is not None:
            self._book.ages_ms.append(delivery.wake.age_ms)

    def _may_ring(self, device_id: str, uid: str) -> bool:
        user = self._user_of(device_id)
        return user == uid or (user is None and not self._strict)

    def _deliver_again(self, delivery: Delivery, sockets: Iterable[AppConnection], step: str) -> None:
        """Send to those of the sockets that may receive it; the first success gives the device an outcome."""
        able = _can_repeat(sockets)
        if not able:
            return
        reach = self._deliver(delivery, able, self._clock.monotonic(), step)
        if self._book is not None:
            self._book.changed[delivery.wake.id] = delivery
        if reach == "unreached":
            return
        if self._deliveries.reached(delivery, self._clock.monotonic()):
            self._tell_device(delivery)

    def _deliver(self, delivery: Delivery, sockets: Iterable[AppConnection], now: float, step: str) -> Reach:
        """Queue the frame at each socket; noted as this step."""
        wake = delivery.wake
        steps = delivery.steps
        reach: Reach = "unreached"
        frames: dict[str, str] = {}
        for socket in sockets:
            mode = socket.mode
            frame = frames.get(mode)
            if frame is None:
                frame = frames[mode] = FRAMES[mode].voice_command(
                    wake.command,
                    self._stamps.now(),
                    wake_id=wake.id,
                    device_id=delivery.device_id,
                    ttl_ms=wake.ttl_ms,
                    age_ms=delivery.age_ms(now),
                    received_at=delivery.received_on,
                    clock_ms=int(now * 1000),
                )
            sent = socket.send(frame)
            if sent and reach != "reached_legacy":
                reach = "reached_legacy" if mode == "legacy" else "reached"
            if steps is not None and len(steps) < MOST_SENT:
                steps.append(
                    (now, step, socket.label, mode) if sent else (now, "not_queued", socket.label, mode, socket.ended)
                )
        return reach

    def _note(self, delivery: Delivery, what: str, *details: object) -> None:
        if self._book is not None:
            self._book.note(delivery, what, *details)

    def _tell_device(self, delivery: Delivery) -> None:
        if self._tell_bridges is not None:
            self._tell_bridges(delivery.device_id, delivery.wake.id, delivery.status)
        if delivery.device_id != LEGACY_DEVICE:
            outcome = encode_outcome(delivery.wake.id, delivery.status, delivery.latency_ms)
            if not self._tell(delivery.device_id, outcome):
                self._note(delivery, "untold")


def _can_repeat(sockets: Iterable[AppConnection]) -> list[AppConnection]:
    """Those that understand ids, and whose buffer a repetition does not fill."""
    return [socket for socket in sockets if socket.mode == "v2" and socket.has_room]
