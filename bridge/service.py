"""Wires hub, relay, sessions and the MQTT session together, and runs their tasks."""

import asyncio
import contextlib
import math
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import cast

from prometheus_client import Counter

from bridge import gauges
from bridge.app_events import AppEvents
from bridge.apps.connection import AppConnection
from bridge.apps.hub import Hub
from bridge.apps.returning_sockets import REMEMBERED_FOR_S, ReturningSockets
from bridge.auth.authenticator import Authenticator
from bridge.auth.rate_limits import Budget, Budgets, amount_of
from bridge.chronicle import Chronicle
from bridge.drain import RETRY_WITHIN_MS, SLICE_S, Drain, Times
from bridge.gate import Gate
from bridge.home_assistant.publisher import HomeAssistant
from bridge.loop_lag import LoopLag
from bridge.news_hints import NewsHints
from bridge.peer_messages import HEARD, PeerMessages
from bridge.push.service import PushNotifications
from bridge.report_queue import ReportQueue
from bridge.rollout.service import RolloutService
from bridge.sessions.devices import Devices
from bridge.sessions.events import Event
from bridge.sessions.logout_poster import LogoutPoster
from bridge.sessions.memory import LedgerMemory
from bridge.sessions.removed_devices import Leftovers
from bridge.sessions.service import Sessions
from bridge.shared_keys import refuse_to_make_others
from bridge.storage.records import UNNAMED, Audit, By
from bridge.storage.rollouts import RolloutStore
from bridge.storage.store import Beat, Store, StoreError
from bridge.wakes.relay import Relay
from bridge.wakes.told import ToldOutcomes
from contract import client_ids
from contract.app_socket import LOST, MODES, CloseCode, Mode
from contract.clock import Clock, Stamps, SystemClock, iso
from contract.errors import StartError
from contract.messages import (
    LEGACY_DEVICE,
    Ack,
    BridgeStatus,
    DeviceStatus,
    Hello,
    LogoutReason,
    ModelReport,
)
from contract.topics import ACK, BRIDGE_STATUS, DEVICE_STATUS, HELLO, MODEL_REPORT, NEWS, OUTCOME, OUTCOMES, WAKE, Topic
from contract.wake_codec import QuickWake, decode_wake
from infra.log_limit import LogLimit
from infra.mqtt.session import NOT_YET, Incoming, MqttSession, Outgoing, Subscription
from infra.settings.loader import Settings
from infra.tasks import Tasks
from infra.telemetry import REGISTRY, CounterFamily, get_logger

VERSION = version("sarvis")
LEAVES = "the server restarts"
CLOSES = frozenset({1000, 1001, 1005, LOST, 1011, 1012, *CloseCode})
TICK_S = 0.5
PRUNE_EVERY_S = 3600.0
LOOK_AT_KEYS_S = 1.0
TELL_OF_FLOODS_EVERY_S = 10.0
TOLD_OF_MISUNDERSTOOD = "10/minute"
"""Limit of log lines about sockets."""
MOST_FLOODS_TOLD = 50
"""Limit of log lines about flooding devices, one line each."""

CLOSED = CounterFamily(
    "sarvis_app_closes", "Apps' sockets that ended, by close code", "code", (*map(str, CLOSES), "other")
).counts
CONNECTED = CounterFamily("sarvis_app_connects", "Apps' sockets that were accepted", "mode", MODES).counts
NOT_STORED = Counter("sarvis_not_stored_total", "Writes of the service time that failed", registry=REGISTRY)
FLOODED = Counter(
    "sarvis_device_messages_refused_total", "MQTT messages beyond a device's limit", ["kind"], registry=REGISTRY
)

log = get_logger("bridge")


class Bridge:
    """Everything between MQTT and the apps, without HTTP. Use it inside `async with bridge.running()`."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        clock: Clock | None = None,
        *,
        rollouts: RolloutStore | None = None,
    ) -> None:
        self.settings = settings
        self.store = store
        self.clock = clock or SystemClock()
        self.stamps = Stamps(self.clock)
        self.authenticator = Authenticator(settings, store, self.clock)
        self.hub: Hub[AppConnection] = Hub(settings.bridge.max_sockets_per_user)
        self._returns: ReturningSockets[AppConnection] = ReturningSockets()
        self.draining = False
        """It leaves: it is no longer ready, and still accepts."""
        self.closing = False
        """It leaves, and refuses all newcomers."""
        most = settings.bridge.max_sockets
        self.gate = None if most is None else Gate(most, random.random)
        """None: every app may connect."""
        self.asked_to_leave = asyncio.Event()
        """Set by an operator's request; the server then drains the bridge and ends."""
        self._left = asyncio.Event()
        self.changes = 0
        """How many commits changed something, also those of other bridges that this one followed."""
        self.keeping = asyncio.Lock()
        """Held while wakes that were missed are on their way into the ledger."""
        self._connected_at = -math.inf
        """To the broker; monotonic."""
        self._started_at = iso(self.clock.utc_now())
        self.rollout_store = rollouts
        rolls = rollouts is not None and settings.rollout.bridge_url is not None
        topics = (
            WAKE, HELLO, ACK, DEVICE_STATUS,
            *((MODEL_REPORT,) if rolls else ()), *(HEARD if store.shared else ()),
        )  # fmt: skip
        self.mqtt = MqttSession(
            settings.mqtt,
            client_ids.of_bridge(settings.bridge.instance),
            self.clock,
            subscriptions=[Subscription(topic) for topic in topics],
            on_message=self._received_beside_others if store.shared else self._received,
            last_will=lambda: self._status("offline"),
            on_connected=self._connected,
            admit=self._admit_beside_others if store.shared else self._admit,
            handlers={WAKE: self._wake_came},
            id_setting="bridge.instance",
        )
        self._device_budgets = Budgets(settings.limits.device)
        self._floods = LogLimit(TELL_OF_FLOODS_EVERY_S, MOST_FLOODS_TOLD)
        self._misunderstood = Budget(*amount_of(TOLD_OF_MISUNDERSTOOD))
        self._home_assistant = (
            HomeAssistant(settings.home_assistant, self.mqtt, self.clock, VERSION)
            if settings.home_assistant.enabled
            else None
        )
        self._leftovers = Leftovers(store, self._clear, self.clock)
        self._logout_poster = LogoutPoster()
        self.devices = Devices(self.mqtt.send, self._logout_poster.post)
        memory = LedgerMemory(settings.bridge, self.clock, shared=store.shared)
        self.chronicle = Chronicle(settings, self.clock, VERSION)
        self.push = PushNotifications(
            settings.push, store, self.clock, alive=memory.liveness.may_be_alive, book=self.chronicle.book
        )
        self._told = (
            ToldOutcomes(
                self.clock,
                send=partial(self.mqtt.send_raw, OUTCOMES, settings.bridge.instance),
                is_heard=lambda: not self.sessions.peers.alone,
            )
            if store.shared
            else None
        )
        self.relay = Relay(
            self.hub,
            self.clock,
            tell=partial(self.mqtt.send_raw, OUTCOME),
            mirror=partial(self.mqtt.show, WAKE, LEGACY_DEVICE),
            user_of=memory.active_sessions.user_of,
            strict=self.authenticator.required,
            tell_bridges=None if self._told is None else self._told.add,
            push=self.push.wake if settings.push.enabled else None,
            book=self.chronicle.book,
            watch=None if self._home_assistant is None else self._home_assistant.watch,
        )
        self._peer_messages = (
            PeerMessages(
                settings.bridge.instance,
                self.relay,
                self.hub,
                self.mqtt,
                self.clock,
                peers=lambda: self.sessions.peers,
                looked_at=lambda: self.sessions.looked_at,
                max_per_user=settings.bridge.max_sockets_per_user,
                heard_news=lambda news: self._news_hints.heard(news),  # noqa: PLW0108 - it is made later
                answer=self._told.answer,
                connected_since=lambda: self._connected_at if self.mqtt.connected else math.inf,
            )
            if self._told is not None
            else None
        )
        self._wakes = self.relay if self._peer_messages is None else self._peer_messages.wakes
        self._app_events = AppEvents(self.hub, self._wakes, self.push, self._returns, self.clock)
        self.sessions = Sessions(store, settings, self.clock, self.devices, self._on_event, memory, self._beat)
        self._news_hints = NewsHints(self.sessions, self.clock, partial(self.mqtt.send, NEWS, settings.bridge.instance))
        self._reports = ReportQueue(self.sessions, self.clock)
        self._rollouts = (
            RolloutService(
                settings.rollout, rollouts, self.mqtt, self.clock,
                online=self.sessions.device_online,
                is_first=lambda: self.mqtt.connected and self.sessions.peers.rank("rollouts") == 0,
                keys=(lambda: self.authenticator.signing_keys) if self.authenticator.required else None,
            )
            if rollouts is not None and rolls
            else None
        )  # fmt: skip

    @asynccontextmanager
    async def running(self, *, restored: bool = False, stories: Path | None = None) -> AsyncIterator[None]:
        """MQTT, deadlines and reports are processed inside this block; raises SarvisError before it begins.

        Only an internal error ends one of these tasks: then the block is cancelled, and raises the error.

        Args:
        restored: the ledger is a back-up.
        stories: the file that stories are written to; None for no file.
        """
        try:
            await refuse_to_make_others(self.settings, self.store)
            self.authenticator.open()
            loaded = await self.sessions.load(restored=restored)
            self._expect_returns(loaded.left)
        except StoreError as error:
            raise StartError(str(error)) from None
        gauges.show(self.hub, self.sessions, self.store, self.chronicle)
        async with (
            self.chronicle.running(stories),
            self._logout_poster.running(),
            self.sessions.running(),
            self.push.running(),
        ):
            try:
                async with Tasks() as tasks:
                    tasks.start(self.mqtt.run(), "mqtt")
                    tasks.start(self._tick(), "tick")
                    tasks.start(self._reports.run(), "reports")
                    tasks.start(self._prune(), "prune")
                    tasks.start(self._leftovers.run(), "leftovers")
                    tasks.start(self._watch_keys(), "keys")
                    tasks.start(self.authenticator.note_key_use(), "key_use")
                    tasks.start(LoopLag(self.clock).run(), "loop_lag")
                    if self._home_assistant is not None:
                        tasks.start(self._home_assistant.run(), "home assistant")
                    if self._rollouts is not None:
                        tasks.start(self._rollouts.run(), "rollouts")
                    if self._peer_messages is not None:
                        tasks.start(self._peer_messages.wakes.run(), "shared wakes")
                        tasks.start(self._news_hints.run(), "hints of news")
                        tasks.start(self._news_hints.look(), "looks at news")
                    if self._told is not None:
                        tasks.start(self._told.run(), "outcomes told")
                    yield
            finally:
                await self.sessions.stop()

    async def drain(self) -> None:
        """Leave: first only not ready, then closed to newcomers, and every app is asked to reconnect, paced.

        Apps reconnect later, or at another bridge. Waits a little for them to close.
        """
        times = Times.of(self.settings)
        self.draining = True
        log.info("leaves", sockets=len(self.hub), within_s=times.lead_s + times.rest_s)
        if times.lead_s:
            await self.clock.sleep(times.lead_s)
        self.closing = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(times.rest_s):
                await self._send_away(times.closing_s)
                while len(self.hub):
                    self._left.clear()
                    await self._left.wait()

    async def _send_away(self, closing_s: float) -> None:
        drain = Drain(self.hub, closing_s, self.clock.monotonic(), random.random)
        while True:
            for connection, retry_ms in drain.due(self.clock.monotonic(), lambda one: self.relay.rings(one.uid)):
                connection.close(CloseCode.DRAIN, LEAVES, retry_ms)
            if not len(drain):
                return
            await self.clock.sleep(SLICE_S)

    def join(self, connection: AppConnection, client: str | None, turn: int = 0) -> None:
        """The socket receives its user's wakes from now on; others may be closed for it, also at other bridges.

        `turn`: the number of the turn that connected its user, if the ledger is shared.
        """
        for other, why in self.hub.join(connection.uid, connection, client):
            if why == "replaced":
                other.close(CloseCode.REPLACED, "the same client connected again")
            else:
                other.close(CloseCode.TOO_MANY, "too many sockets of this user")
        if self._peer_messages is not None:
            self._peer_messages.joined(connection, client, turn)
        CONNECTED[connection.mode] += 1
        self.chronicle.joined(connection, client)
        self._wakes.connected(connection)
        if self.closing:
            connection.close(CloseCode.DRAIN, LEAVES, random.randrange(RETRY_WITHIN_MS))  # noqa: S311 - no secret

    @property
    def has_room(self) -> bool:
        """Whether one more app may connect."""
        return self.gate is None or self.gate.has_room(len(self.hub))

    def returns(self, uid: str, mode: Mode, client: str | None) -> LogoutReason | None:
        """Why its user was logged out, if the connecting socket returned by itself; call it once for each socket.

        Such a socket is no sign of life: it opens no session. It gets its first frame, and joins by `join_again`.
        """
        if mode != "legacy" or self.sessions.alive(uid):
            return None
        return self._returns.take(uid, client, self.clock.monotonic())

    def join_again(self, connection: AppConnection, client: str | None, reason: LogoutReason) -> None:
        """`join` for a socket that has returned."""
        self._returns.back(connection, reason, self.clock.monotonic())
        log.info(
            "app_returned", uid=connection.uid, logged_out=reason, told="it is served, but does not log its user in"
        )
        self.join(connection, client)

    async def heard_again(self, connection: AppConnection) -> bool:
        """Whether a heartbeat is answered although its user is logged out. Raises StoreError.

        On a returned socket it is; it may also log the user in again.
        """
        if self._returns.does_beat_count(connection, self.clock.monotonic()):
            await self.sessions.connected(connection.uid)
        return self._returns.is_back(connection)

    def may_tell_of_misunderstood(self) -> bool:
        """Whether to log one more socket that sends invalid messages."""
        return self._misunderstood.spend(self.clock.monotonic())

    def leave(self, connection: AppConnection) -> None:
        """The socket is closed."""
        self.hub.leave(connection.uid, connection)
        CLOSED[str(connection.ended) if connection.ended in CLOSES else "other"] += 1
        if self._peer_messages is not None:
            self._peer_messages.left(connection)
        self.relay.closed(connection)
        self.chronicle.left(connection)
        self._returns.left(connection)
        self._left.set()

    def _expect_returns(self, left: Iterable[Audit]) -> None:
        """Expect returns for recent log-outs; a user who was alive since is alive now."""
        since = iso(self.clock.utc_now() - timedelta(seconds=REMEMBERED_FOR_S))
        away = {line.uid: line.reason for line in reversed(list(left)) if line.at >= since}
        self._returns.restarted(
            [(uid, cast("LogoutReason", why)) for uid, why in away.items() if not self.sessions.alive(uid)],
            self.clock.monotonic(),
        )

    @property
    def problem(self) -> str | None:
        """Why wakes cannot be delivered; None if they can."""
        if self.draining:
            return "draining"
        if not self.mqtt.connected:
            return f"mqtt: {self.mqtt.problem}"
        return None if self.store.problem is None else f"ledger: {self.store.problem}"

    async def remove_device(self, device_id: str, *, give_up: bool, by: By = UNNAMED) -> int:
        """Remove a device; returns how many log-outs it has not confirmed. Raises NoSuchDeviceError, StoreError."""
        waiting = await self.sessions.remove(device_id, give_up=give_up, by=by)
        if not self._clear(device_id):
            self._leftovers.seen(device_id)
        return waiting

    def _clear(self, device_id: str) -> bool:
        """Delete what brokers retain of a removed device; False if no broker is reached."""
        gone = self._home_assistant is None or self._home_assistant.removed(device_id)
        return self.mqtt.clear(DEVICE_STATUS, device_id) and gone

    def _beat(self) -> Beat:
        return Beat(self.mqtt.connected, self.draining, len(self.hub))

    def _connected(self) -> None:
        self._connected_at = self.clock.monotonic()
        if self._home_assistant is not None:
            self._home_assistant.connected()
        status = self._status("online")
        self.mqtt.send(status.topic, status.owner, status.message)
        self.sessions.broker_reached()

    def _status(self, state: str) -> Outgoing:
        instance = self.settings.bridge.instance
        message = BridgeStatus.model_validate(
            {"state": state, "version": VERSION, "started_at": self._started_at, "era": self.store.era or None}
        )
        return Outgoing(BRIDGE_STATUS, instance, message)

    def _on_event(self, event: Event) -> None:
        self.changes += 1
        self._app_events.on_event(event)
        self._news_hints.changed()

    async def trigger(self, wake: QuickWake) -> bool:
        """The legacy HTTP trigger; True if at least one socket accepted it, here or at another bridge."""
        if self._peer_messages is None:
            return self.relay.trigger(wake)
        return await self._peer_messages.wakes.trigger(wake)

    def _received_beside_others(self, incoming: Incoming) -> None:
        if self._peer_messages is None or not self._peer_messages.received(incoming):
            self._received(incoming)

    def _wake_came(self, device_id: str, payload: bytes, retained: bool) -> None:
        """A device recognised its word; called for those of all bridges' users. Raises MessageError."""
        if device_id == LEGACY_DEVICE:
            return  # our own mirror of the HTTP trigger; a device cannot have this name
        if not self._device_budgets.spend(device_id, now := self.clock.monotonic()):
            self._flooded(WAKE, device_id, now)
            return
        wake = decode_wake(payload)
        if not retained:
            self._wakes.wake(device_id, wake)

    def _received(self, incoming: Incoming) -> None:
        if incoming.owner == LEGACY_DEVICE:
            incoming.ack()
            return
        match incoming.message:
            case Hello() | Ack():
                self._tell_of_report(incoming)
                self._reports.put(incoming)
            case DeviceStatus():
                self.chronicle.status(incoming.owner, incoming.message, retained=incoming.retained)
                self.sessions.device_status(incoming.owner, incoming.message)
                if self._home_assistant is not None:
                    self._home_assistant.status(incoming.owner, incoming.message)
                incoming.ack()
            case _:
                self._tell_rollouts(incoming)
                incoming.ack()

    def _tell_of_report(self, incoming: Incoming) -> None:
        if not incoming.retained:
            self.chronicle.report(incoming.owner, incoming.message)
            self._tell_rollouts(incoming)

    def _tell_rollouts(self, incoming: Incoming) -> None:
        if self._rollouts is not None and not incoming.retained and isinstance(incoming.message, Hello | ModelReport):
            self._rollouts.heard(incoming.owner, incoming.message)

    def _admit_beside_others(self, topic: Topic, owner: str) -> bool:
        """What bridges say is not limited as what devices say, and what this one says itself is known."""
        if topic.family == "bridges":
            return topic is not OUTCOMES or owner != self.settings.bridge.instance
        return self._admit(topic, owner)

    def _admit(self, topic: Topic, device_id: str) -> bool:
        """Called for each message before it is decoded: a flood from one device must cost as little as possible."""
        now = self.clock.monotonic()
        if topic is DEVICE_STATUS:
            self._leftovers.seen(device_id)  # also for an invalid message, or one over the limit
        if self._device_budgets.spend(device_id, now):
            return True
        self._flooded(topic, device_id, now)
        return False

    def _flooded(self, topic: Topic, device_id: str, now: float) -> None:
        FLOODED.labels(topic.kind).inc()
        if self._floods.is_due(device_id, now):
            log.warning("device_floods", device_id=device_id, kind=topic.kind, advice="sarvis device remove ends it")
            self.chronicle.flooded(device_id, topic.kind, self.settings.limits.device)

    async def _tick(self) -> None:
        while True:
            try:
                self.relay.tick()
                self._note()
                await self._keep_time()
            except StoreError:
                NOT_STORED.inc()  # the store has logged the reason once
            except Exception:
                log.exception("tick_failed")
            await self.clock.sleep(TICK_S)

    def _note(self) -> None:
        broker = None if self.mqtt.connected or self.mqtt.problem == NOT_YET else self.mqtt.problem
        self.chronicle.conditions(broker=broker, ledger=self.store.problem)
        self.chronicle.flush()

    async def _keep_time(self) -> None:
        async with self.keeping:
            unsaved = self.relay.take_unsaved()
            try:
                await self.sessions.tick(unsaved)
            finally:
                self.relay.put_back(unsaved)  # not on disk

    async def _watch_keys(self) -> None:
        """Close sockets whose signing key was removed."""
        keys = {key.key_id for key in self.authenticator.signing_keys}
        while True:
            await self.clock.sleep(LOOK_AT_KEYS_S)
            valid = {key.key_id for key in self.authenticator.signing_keys}
            if keys - valid:
                for connection in list(self.hub):
                    if connection.principal.key_id in keys - valid:
                        connection.close(CloseCode.UNAUTHORISED, "the key that signed this token is not valid any more")
            keys = valid

    async def _prune(self) -> None:
        while True:
            timeout_s = self.settings.bridge.heartbeat_timeout_s
            if self.sessions.peers.rank("prune") == 0:
                await self.store.prune(departed_before_s=self.sessions.liveness.now() - timeout_s)
            await self.clock.sleep(PRUNE_EVERY_S)
