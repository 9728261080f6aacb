"""The bridge as a whole: hub, relay, sessions and the MQTT session, and the tasks that keep them going."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from importlib.metadata import version
from typing import cast

from prometheus_client import Counter, Gauge

from bridge.app_protocol import CloseCode, Mode
from bridge.auth.doors import Doors
from bridge.auth.rates import Budget, Budgets, amount_of
from bridge.hub import Hub
from bridge.poster import Poster
from bridge.pushing import Pushing
from bridge.relay import Relay
from bridge.returns import REMEMBERED_FOR_S, Returns
from bridge.rows import Audit, PendingLogout, Session
from bridge.sessions import Sessions, describe
from bridge.store import Store, StoreError
from bridge.wakes import Fate
from bridge.websocket.connection import AppConnection
from contract.clock import Clock, Stamps, SystemClock, iso
from contract.errors import StartError
from contract.messages import (
    LEGACY_DEVICE,
    Ack,
    BridgeStatus,
    DeviceStatus,
    Hello,
    LogoutReason,
    Wake,
)
from contract.mqtt import Incoming, MqttSession, Outgoing, Subscription
from contract.quick_wake import QuickWake, decode_wake
from contract.rarely import Rarely
from contract.settings import Settings
from contract.telemetry import REGISTRY, get_logger
from contract.topics import ACK, BRIDGE_STATUS, DEVICE_STATUS, HELLO, OUTCOME, WAKE, Topic

VERSION = version("sarvis")
TICK_S = 0.5
PRUNE_EVERY_S = 3600.0
MAX_WAITING_REPORTS = 10_000
REPORTS_AT_ONCE = 100
LOOK_AT_KEYS_S = 1.0
TELL_OF_FLOODS_EVERY_S = 10.0
TOLD_OF_MISUNDERSTOOD = "10/minute"
"""Sockets, in the log."""
MOST_FLOODS_TOLD = 50
"""Devices that flood at the same time, each in a line of its own."""

CONNECTIONS = Gauge("sarvis_app_connections", "Apps' sockets that are open", registry=REGISTRY)
RUNNING = Gauge("sarvis_sessions", "Sessions that run", registry=REGISTRY)
WAITING = Gauge("sarvis_logouts_waiting", "Log-outs that no device has confirmed yet", registry=REGISTRY)
NOT_STORED = Counter("sarvis_not_stored_total", "Looks at the clock that could not be stored", registry=REGISTRY)
REPORTS_REFUSED = Counter(
    "sarvis_reports_refused_total", "Reports not taken because too many were waiting", registry=REGISTRY
)

FLOODED = Counter(
    "sarvis_device_messages_refused_total", "MQTT messages beyond a device's limit", ["kind"], registry=REGISTRY
)

log = get_logger("bridge")


class Bridge:
    """Everything between MQTT and the apps, without HTTP. Use it inside `async with bridge.running()`."""

    def __init__(self, settings: Settings, store: Store, clock: Clock | None = None) -> None:
        self.settings = settings
        self.store = store
        self.clock = clock or SystemClock()
        self.stamps = Stamps(self.clock)
        self.doors = Doors(settings, store, self.clock)
        self.hub: Hub[AppConnection] = Hub(settings.bridge.max_sockets_per_user)
        self._returns: Returns[AppConnection] = Returns()
        self.draining = False
        self.tasks: Sequence[asyncio.Task[None]] = ()
        """What runs inside `running`; each ends by a fault of ours only."""
        self._left = asyncio.Event()
        self._started_at = iso(self.clock.utc_now())
        self.mqtt = MqttSession(
            settings.mqtt,
            f"sarvis-bridge-{settings.bridge.instance}",
            self.clock,
            subscriptions=[Subscription(topic) for topic in (WAKE, HELLO, ACK, DEVICE_STATUS)],
            on_message=self._received,
            last_will=lambda: self._status("offline"),
            on_connected=self._connected,
            admit=self._admit,
            decoders={WAKE: decode_wake},
            id_setting="bridge.instance",
        )
        self._device_budgets = Budgets(settings.limits.device)
        self._floods = Rarely(TELL_OF_FLOODS_EVERY_S, MOST_FLOODS_TOLD)
        self._misunderstood = Budget(*amount_of(TOLD_OF_MISUNDERSTOOD))
        self._removed: set[str] = set()
        self._poster = Poster(self._posted)
        self.sessions = Sessions(
            store,
            settings.bridge,
            self.clock,
            send=self.mqtt.send,
            on_opened=self._tell_opened,
            on_ended=self._tell_ended,
            on_gone=self._close_sockets,
            post=self._poster.post,
            post_over=self._poster.over,
            legacy_url=settings.legacy.logout_url,
            strict=self.doors.required,
        )
        self.pushing = Pushing(
            settings.push,
            store,
            self.clock,
            alive=self.sessions.alive,
            on_accepted=self._pushed,
        )
        self.relay = Relay(
            self.hub,
            self.clock,
            tell=partial(self.mqtt.send_raw, OUTCOME),
            mirror=partial(self.mqtt.show, WAKE, LEGACY_DEVICE),
            user_of=self.sessions.user_of,
            strict=self.doors.required,
            push=self.pushing.wake if settings.push.enabled else None,
        )
        self._reports: asyncio.Queue[Incoming] = asyncio.Queue(MAX_WAITING_REPORTS)

    @asynccontextmanager
    async def running(self, *, restored: bool = False) -> AsyncIterator[None]:
        """MQTT, deadlines and reports are looked after inside this block; raises SarvisError before it begins.

        Args:
            restored: the ledger is a back-up.
        """
        try:
            self.doors.open()
            loaded = await self.sessions.load(restored=restored)
            self.relay.load_missed(loaded.missed)
            self.pushing.load(loaded.subscriptions)
            self._removed = set(await self.store.removed())
            self._expect_returns(loaded.left)
        except StoreError as error:
            raise StartError(str(error)) from None
        CONNECTIONS.set_function(lambda: len(self.hub))
        RUNNING.set_function(lambda: self.sessions.running)
        WAITING.set_function(lambda: self.sessions.waiting)
        async with self._poster.running(), self.pushing.running():
            self.tasks = tasks = [
                asyncio.create_task(self.mqtt.run(), name="mqtt"),
                asyncio.create_task(self._tick(), name="tick"),
                asyncio.create_task(self._take_reports(), name="reports"),
                asyncio.create_task(self._prune(), name="prune"),
                asyncio.create_task(self._watch_keys(), name="keys"),
            ]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                await self.sessions.stop()

    async def drain(self) -> None:
        """Ask every app to come back elsewhere or later; waits a little for them to go."""
        self.draining = True
        for connection in list(self.hub):
            connection.close(CloseCode.DRAIN, "the server restarts")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.settings.bridge.drain_s):
                while len(self.hub):
                    self._left.clear()
                    await self._left.wait()

    def join(self, connection: AppConnection, client: str | None) -> None:
        """The socket hears its user's wakes from now on; others may have to go for it."""
        for other, why in self.hub.join(connection.uid, connection, client):
            if why == "replaced":
                other.close(CloseCode.REPLACED, "the same client connected again")
            else:
                other.close(CloseCode.TOO_MANY, "too many sockets of this user")
        self.relay.connected(connection)
        if self.draining:
            connection.close(CloseCode.DRAIN, "the server restarts")

    def returns(self, uid: str, mode: Mode, client: str | None) -> LogoutReason | None:
        """Why its user was logged out, if the socket that connects comes back by itself; asked once for each socket.

        Then it is no sign of life: no session is opened for it. It is greeted, and joins by `join_again`.
        """
        if mode != "legacy" or self.sessions.alive(uid):
            return None
        return self._returns.take(uid, client, self.clock.monotonic())

    def join_again(self, connection: AppConnection, client: str | None, reason: LogoutReason) -> None:
        """`join` for a socket that has returned."""
        self._returns.back(connection, reason, self.clock.monotonic())
        log.info("app_returned", uid=connection.uid, logged_out=reason, told="it is served, and logs nobody in")
        self.join(connection, client)

    async def heard_again(self, connection: AppConnection) -> bool:
        """Is a heartbeat answered although its user is logged out? Raises StoreError.

        On a socket that has returned it is; it may also log the user in again.
        """
        if self._returns.does_beat_count(connection, self.clock.monotonic()):
            await self.sessions.connected(connection.uid)
        return self._returns.is_back(connection)

    def may_tell_of_misunderstood(self) -> bool:
        """May the log tell of one more socket whose messages are not understood?"""
        return self._misunderstood.spend(self.clock.monotonic())

    def leave(self, connection: AppConnection) -> None:
        """The socket is gone."""
        self.hub.leave(connection.uid, connection)
        self._returns.left(connection)
        self._left.set()

    def _expect_returns(self, left: Iterable[Audit]) -> None:
        """Of those whose log-out is not long past; who has lived since is alive now."""
        since = iso(self.clock.utc_now() - timedelta(seconds=REMEMBERED_FOR_S))
        away = {line.uid: line.reason for line in reversed(list(left)) if line.at >= since}
        self._returns.restarted(
            [(uid, cast("LogoutReason", why)) for uid, why in away.items() if not self.sessions.alive(uid)],
            self.clock.monotonic(),
        )

    @property
    def problem(self) -> str | None:
        """Why wakes cannot come and go; None when they can."""
        if self.draining:
            return "draining"
        if not self.mqtt.connected:
            return f"mqtt: {self.mqtt.problem}"
        return None if self.store.problem is None else f"ledger: {self.store.problem}"

    async def remove_device(self, device_id: str, *, give_up: bool) -> int:
        """Take a device out; how many log-outs it has not confirmed. Raises NoSuchDeviceError, StoreError."""
        waiting = await self.sessions.remove(device_id, give_up=give_up)
        self._removed.add(device_id)
        self.mqtt.clear(DEVICE_STATUS, device_id)
        return waiting

    def _connected(self) -> None:
        status = self._status("online")
        self.mqtt.send(status.topic, status.owner, status.message)
        self.sessions.broker_reached()

    def _status(self, state: str) -> Outgoing:
        instance = self.settings.bridge.instance
        message = BridgeStatus.model_validate({"state": state, "version": VERSION, "started_at": self._started_at})
        return Outgoing(BRIDGE_STATUS, instance, message)

    def _received(self, incoming: Incoming) -> None:
        if incoming.owner == LEGACY_DEVICE:
            incoming.ack()  # our own mirror of the HTTP trigger; no device may take its name
            return
        match incoming.message:
            case QuickWake() | Wake():
                if not incoming.retained:
                    self.relay.wake(incoming.owner, incoming.message)
                incoming.ack()
            case Hello() | Ack():
                try:
                    self._reports.put_nowait(incoming)
                except asyncio.QueueFull:
                    REPORTS_REFUSED.inc()
                    incoming.ack()  # devices say hello again; a broker's window full of these would stop wakes, too
            case DeviceStatus():
                self._take_status(incoming.owner, incoming.message)
                incoming.ack()
            case _:
                incoming.ack()

    def _take_status(self, device_id: str, status: DeviceStatus) -> None:
        self.sessions.device_status(device_id, status)
        if status.state == "online":
            self._removed.discard(device_id)  # it was added again, or is about to be cut off
        elif device_id in self._removed:
            # Its last will, when the broker closed its connection: nobody shall read of it again.
            self.mqtt.clear(DEVICE_STATUS, device_id)

    def _admit(self, topic: Topic, device_id: str) -> bool:
        """Asked for each message before it is decoded: a flood from one device costs as little as can be."""
        now = self.clock.monotonic()
        # Our own mirror of the HTTP trigger has the limits of its callers.
        if device_id == LEGACY_DEVICE or self._device_budgets.spend(device_id, now):
            return True
        FLOODED.labels(topic.kind).inc()
        if self._floods.is_due(device_id, now):
            log.warning("device_floods", device_id=device_id, kind=topic.kind, advice="sarvis device remove ends it")
        return False

    async def _take_reports(self) -> None:
        """Reports of many devices in one commit, answered, and only then acknowledged to the broker.

        What could not be stored is acknowledged, too: no answer goes out, so the device reports again. Unacknowledged
        it would fill the broker's window, and wakes would stop with it.
        """
        later: Incoming | None = None
        while True:
            batch = {(first := later or await self._reports.get()).owner: first}
            later = None
            while len(batch) < REPORTS_AT_ONCE and not self._reports.empty() and later is None:
                incoming = self._reports.get_nowait()
                if incoming.owner in batch:
                    later = incoming
                else:
                    batch[incoming.owner] = incoming
            await self._take(list(batch.values()))
            for incoming in batch.values():
                incoming.ack()

    async def _take(self, batch: list[Incoming]) -> None:
        reports = [
            (incoming.owner, incoming.message)
            for incoming in batch
            if isinstance(incoming.message, Hello | Ack) and not incoming.retained
        ]
        try:
            await self.sessions.reports(reports)
        except StoreError as error:
            log.warning("reports_not_stored", count=len(reports), error=str(error))
        except Exception:
            log.exception("reports_failed", devices=[device_id for device_id, _ in reports])

    async def _posted(self, row: PendingLogout, problem: str | None) -> None:
        await self.sessions.posted(row, problem)

    def _pushed(self, fate: Fate) -> None:
        self.relay.pushed(fate)

    async def _tick(self) -> None:
        while True:
            try:
                self.relay.tick()
                unsaved = list(self.relay.unsaved)
                await self.sessions.tick(unsaved)
                for _ in unsaved:
                    self.relay.unsaved.popleft()
            except StoreError:
                NOT_STORED.inc()  # the store has said once what is wrong
            except Exception:
                log.exception("tick_failed")
            await asyncio.sleep(TICK_S)

    async def _watch_keys(self) -> None:
        """Whoever came in with a key that has been taken out must go."""
        keys = {key.key_id for key in self.doors.signing_keys}
        while True:
            await asyncio.sleep(LOOK_AT_KEYS_S)
            valid = {key.key_id for key in self.doors.signing_keys}
            if keys - valid:
                for connection in list(self.hub):
                    if connection.principal.key_id in keys - valid:
                        connection.close(CloseCode.UNAUTHORISED, "the key that signed this token is not valid any more")
            keys = valid

    async def _prune(self) -> None:
        while True:
            await self.store.prune()
            await asyncio.sleep(PRUNE_EVERY_S)

    def _tell_opened(self, session: Session) -> None:
        timestamp = iso(self.clock.utc_now())
        for connection in self.hub.of(session.uid):
            if (frame := connection.frames.session_began(timestamp, describe(session))) is not None:
                connection.send(frame)

    def _tell_ended(self, session: Session) -> None:
        timestamp = iso(self.clock.utc_now())
        for connection in self.hub.of(session.uid):
            frame = connection.frames.session_ended(timestamp, reason=session.ended or "", device_id=session.device_id)
            if frame is not None:
                connection.send(frame)

    def _close_sockets(self, uid: str, reason: LogoutReason) -> None:
        timestamp = iso(self.clock.utc_now())
        timed_out = reason == "heartbeat_timeout"
        self.relay.left(uid)
        if not timed_out:
            self.pushing.left(uid)
        gone = self.hub.named(uid)
        for connection, _ in gone:
            if reason == "app":
                connection.send(connection.frames.logout_ack(timestamp, reason))
            if timed_out:
                connection.close(CloseCode.HEARTBEAT_TIMEOUT, "no heartbeat for too long")
            else:
                connection.close(CloseCode.LOGGED_OUT, f"logged out ({reason})")
        clients = [client for connection, client in gone if connection.mode == "legacy"]
        self._returns.sent_away(uid, clients, reason, self.clock.monotonic())
