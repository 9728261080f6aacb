"""Wakes where several bridges share a ledger: each hears every wake, and one of them rings it or says what is wrong."""

import asyncio
from collections.abc import Callable, Iterable

from prometheus_client import Counter

from bridge.apps.connection import AppConnection
from bridge.apps.hub import Hub
from bridge.cluster.peers import Peers
from bridge.wakes.delivery import Delivery
from bridge.wakes.relay import TAKEN_BY_SOCKET, Relay
from bridge.wakes.verdicts import ACKED, SENT, WORTH, Remembered, Verdicts
from contract.clock import Clock
from contract.messages import LEGACY_DEVICE, OutcomeStatus, Seek, SoughtWake, Wake
from contract.wake_codec import QuickWake
from infra.telemetry import REGISTRY

CALLER_WAITS_S = 0.4
"""How long an HTTP caller waits for another bridge to ring a user who has no socket here."""
SWEEP_S = 0.05
"""Between two looks at what is due, while something waits."""

SOUGHT = Counter("sarvis_wakes_sought_total", "Wakes for which other bridges were asked", registry=REGISTRY)


class SharedWakes:
    """The relay of a bridge that shares its ledger. While no other bridge is there, it does what the relay does.

    Args:
        me: this bridge's instance.
        peers: who is there now.
        looked_at: this bridge knows what was changed in the ledger before that time, monotonic.
        seek: publishes an encoded Seek; False if no broker is reached.
        answer: tells the other bridges now what devices were told; see `ToldOutcomes`.
        connected_since: how old the connection to the broker is, monotonic; infinite while there is none.
    """

    def __init__(
        self,
        relay: Relay,
        hub: Hub[AppConnection],
        clock: Clock,
        *,
        me: str,
        peers: Callable[[], Peers],
        looked_at: Callable[[], float],
        seek: Callable[[bytes], bool],
        answer: Callable[[], None],
        connected_since: Callable[[], float] = lambda: float("-inf"),
    ) -> None:
        self._relay = relay
        self._hub = hub
        self._clock = clock
        self._me = me
        self._peers = peers
        self._looked_at = looked_at
        self._publish_seek = seek
        self._answer = answer
        self._connected_since = connected_since
        self._verdicts = Verdicts(lambda name: peers().rank(name))
        self._stale_view: list[Remembered] = []
        """Wakes whose user has a socket here, and no session that this bridge knows of yet."""
        self._some_wait = asyncio.Event()
        self._idle = True
        """Whether `run` waits for that event."""
        self._callers: dict[str, asyncio.Event] = {}

    def wake(self, device_id: str, wake: Wake | QuickWake) -> None:
        """See `Relay.wake`; what rings no socket here is left to other bridges first."""
        if device_id == LEGACY_DEVICE:
            return  # a mirror of an HTTP trigger
        delivery = self._relay.known(wake.id)
        if delivery is not None:
            if wake.age_ms >= delivery.wake.age_ms:  # else another bridge's seek has overtaken it
                self._relay.copy(delivery, device_id, wake)
            return
        one = self._verdicts.known(wake.id)
        if one is None and self._peers().alone:
            self._relay.begin(self._relay.received(device_id, wake))
        elif one is None and not self._hub.has(wake.uid):
            self._remember(device_id, wake, waits=True)  # of all bridges' wakes most are another's
        else:
            self._take(device_id, wake, one, waits=True)

    def seek(self, instance: str, seek: Seek) -> None:
        """Another bridge has no socket for a wake."""
        if instance == self._me:
            return
        self._sought(seek)
        self._answer()

    def _sought(self, seek: Seek) -> None:
        delivery = self._relay.known(seek.wake.id)
        if delivery is not None:
            if delivery.device_id == seek.device_id and WORTH[delivery.status] >= SENT:
                self._relay.tell_again(delivery)
            return
        waits = seek.device_id != LEGACY_DEVICE and not self._peers().alone
        one = self._verdicts.known(seek.wake.id)
        if one is not None and one.came:
            waits = False  # it waits, or has waited
        self._take(seek.device_id, seek.wake, one, waits=waits)

    def outcomes(self, outcomes: Iterable[tuple[str, str, OutcomeStatus]]) -> None:
        """Another bridge told devices what became of these wakes."""
        now = self._clock.monotonic()
        relay, verdicts, callers = self._relay, self._verdicts, self._callers
        for device_id, wake_id, status in outcomes:
            delivery = relay.known(wake_id)
            if delivery is not None:
                if delivery.device_id == device_id:
                    relay.elsewhere(delivery, status)
                continue
            verdicts.heard(device_id, wake_id, status, now)
            if callers:
                caller = callers.get(wake_id)
                if caller is not None and WORTH[status] >= SENT:
                    caller.set()

    async def trigger(self, wake: Wake | QuickWake) -> bool:
        """The legacy HTTP trigger; True if at least one socket accepted it, here or at another bridge.

        A wake that is known here does not ring again.
        """
        known = self._relay.known(wake.id)
        if known is not None:
            return known.status in TAKEN_BY_SOCKET
        one = self._verdicts.known(wake.id)
        if one is not None and one.came:
            rings = self._callers.get(wake.id)  # of an earlier call that still waits
            if rings is not None:
                await self._clock.wait(rings, CALLER_WAITS_S)
            return one.word >= SENT
        self._relay.mirror(wake)
        delivery = self._relay.received(LEGACY_DEVICE, wake)
        rung = self._relay.ring(delivery)
        if self._peers().alone:
            if not rung:
                self._relay.refuse(delivery)
            return rung
        if rung:
            self._ask_others(LEGACY_DEVICE, wake, wake.age_ms)
            return True
        return await self._rung_elsewhere(delivery)

    def connected(self, connection: AppConnection) -> None:
        """See `Relay.connected`; also a wake that no socket here was there for."""
        self._relay.connected(connection)
        if connection.mode != "v2" or not connection.has_room:
            return
        for one in self._verdicts.living_of(connection.uid, self._clock.monotonic()):
            self._ring(one, [connection])

    def left(self, uid: str) -> None:
        """See `Relay.left`; the device of a wake that waited hears that the user is not there."""
        for one, wake in self._verdicts.left(uid):
            self._relay.refuse(self._as_delivery(one, wake))
        self._relay.left(uid)

    async def run(self) -> None:
        """Ask other bridges and say what is wrong, when it is time, until cancelled."""
        while True:
            if not self._stale_view and self._verdicts.next_at() is None:
                self._idle = True
                await self._some_wait.wait()
                self._some_wait.clear()
                self._idle = False
            # No longer than this: a wake that comes meanwhile may be due earlier than those that wait.
            await self._clock.sleep(SWEEP_S)
            self.sweep()

    def sweep(self) -> None:
        """What is due now."""
        now = self._clock.monotonic()
        fresh_since = self._looked_at()
        self._stale_view = [
            one
            for one in self._stale_view
            if not self._ring(one) and one.expires_at > now and fresh_since < one.came_at
        ]
        seek, judge = self._verdicts.due(now, fresh_since, self._connected_since())
        for one in seek:
            if one.wake is not None:
                self._ask_others(one.device_id, one.wake, one.age_ms(now))
        for one in judge:
            delivery = self._delivery(one)
            if delivery is not None:
                self._verdicts.settled(one)
                self._relay.begin(delivery)

    def _take(self, device_id: str, wake: Wake | QuickWake, one: Remembered | None, *, waits: bool) -> None:
        """A wake that is not known to the relay: ring it here, or remember it."""
        if one is not None and one.device_id != device_id:
            self._relay.foreign_id(device_id)
            return
        # A socket that connected since the wake first came was given it then, if it may get it twice.
        first = one is None or (not one.came and one.word < ACKED)
        has_socket = self._hub.has(wake.uid)
        if first and has_socket:
            delivery = self._relay.received(device_id, wake)
            if self._relay.ring(delivery):
                if one is not None:
                    self._verdicts.settled(one)
                return
        one = self._remember(device_id, wake, waits=waits)
        if first and has_socket:
            self._stale_view.append(one)

    def _remember(self, device_id: str, wake: Wake | QuickWake, *, waits: bool) -> Remembered:
        one = self._verdicts.came(device_id, wake, self._clock.monotonic(), waits=waits)
        if self._idle:
            self._some_wait.set()
        return one

    def _ring(self, one: Remembered, sockets: list[AppConnection] | None = None) -> bool:
        delivery = self._delivery(one)
        if delivery is None or not self._relay.ring(delivery, sockets):
            return False
        self._verdicts.settled(one)
        return True

    def _delivery(self, one: Remembered) -> Delivery | None:
        """As the relay knows wakes, with the times at which this one came and ends; None if it can ring no more."""
        return None if one.wake is None else self._as_delivery(one, one.wake)

    def _as_delivery(self, one: Remembered, wake: Wake | QuickWake) -> Delivery:
        delivery = self._relay.received(one.device_id, wake)
        delivery.received_at, delivery.expires_at = one.came_at, one.expires_at
        return delivery

    async def _rung_elsewhere(self, delivery: Delivery) -> bool:
        """Ask other bridges for an HTTP caller's wake, and wait a little; if none rings it, this bridge keeps it."""
        wake = delivery.wake
        one = self._remember(LEGACY_DEVICE, wake, waits=False)
        rings = self._callers[wake.id] = asyncio.Event()
        try:
            self._ask_others(LEGACY_DEVICE, wake, wake.age_ms)
            if await self._clock.wait(rings, CALLER_WAITS_S):
                return True
            return self._relay.known(wake.id) is not None  # by a socket that connected meanwhile
        finally:  # also if the caller is gone
            del self._callers[wake.id]
            if one.word < SENT and self._relay.known(wake.id) is None:
                self._verdicts.settled(one)
                self._relay.refuse(delivery)

    def _ask_others(self, device_id: str, wake: Wake | QuickWake, age_ms: int) -> None:
        SOUGHT.inc()
        sought = SoughtWake(
            uid=wake.uid,
            command=wake.command,
            timestamp=wake.timestamp,
            id=wake.id,
            age_ms=age_ms,
            ttl_ms=wake.ttl_ms,
        )
        self._publish_seek(Seek(device_id=device_id, wake=sought).encode())
