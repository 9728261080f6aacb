"""The node: the listener's triggers out as wakes, the bridge's commands in, the session shown by a light."""

import asyncio
import contextlib
import random
from importlib.metadata import version

from contract.clock import Clock, iso
from contract.messages import BridgeStatus, DeviceStatus, Login, Logout, Outcome, Wake, new_id
from contract.mqtt import Incoming, MqttSession, Outgoing, Subscription
from contract.settings import Settings
from contract.telemetry import get_logger
from contract.topics import ACK, BRIDGE_STATUS, DEVICE_STATUS, HELLO, LOGIN, LOGOUT, OUTCOME, WAKE
from edge_node.events import Alarm, Indicator, Told
from edge_node.gate import Trigger
from edge_node.keeping import Keeper
from edge_node.metrics import OUTCOMES, WAKES
from edge_node.outbox import WakeOutbox
from edge_node.panel import Panel
from edge_node.session import Decision, EdgeSession
from edge_node.state import StateFile

VERSION = version("sarvis")
LOOK_EVERY_S = 0.25
MAX_BRIDGES = 100

log = get_logger("edge")


class EdgeNode:
    """One device. Everything here runs on the event loop; `heard` is what the audio thread calls through it.

    Attributes:
        outbox: wakes whose fate is not known.
    """

    def __init__(
        self,
        settings: Settings,
        device_id: str,
        model: str,
        *,
        clock: Clock,
        state_file: StateFile,
        events: Told,
        indicator: Indicator,
    ) -> None:
        self._settings = settings.edge
        self._device_id = device_id
        self._model = model
        self._clock = clock
        self._events = events
        self._panel = Panel(events, indicator)
        self._session = EdgeSession(
            state_file.open(), settings.edge.uid, clock.monotonic(), new_id=new_id, jitter=random.random
        )
        self.outbox = WakeOutbox()
        self._keeper = Keeper(self._session, state_file, self.outbox, events)
        self._look = asyncio.Event()
        self._bridges: set[str] = set()
        self._mqtt = MqttSession(
            settings.mqtt,
            f"sarvis-{device_id}",
            clock,
            subscriptions=[
                Subscription(LOGIN, device_id),
                Subscription(LOGOUT, device_id),
                Subscription(OUTCOME, device_id),
                Subscription(BRIDGE_STATUS),
            ],
            on_message=self._received,
            last_will=lambda: self._status("offline"),
            on_connected=self._connected,
            on_disconnected=self._disconnected,
        )

    async def run(self) -> None:
        """Live until cancelled; raises what ended the connection, if that was a fault of ours."""
        self._panel.start()
        connection = asyncio.create_task(self._mqtt.run(), name="mqtt")
        try:
            self._show_session()
            while not connection.done():
                self._do_what_is_due()
                self._look.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_EVERY_S):
                        await self._look.wait()
            connection.result()  # it ends by a fault of ours only: better a new process than one that is deaf
        finally:
            connection.cancel()
            await asyncio.gather(connection, return_exceptions=True)

    def heard(self, trigger: Trigger, heard_at: float) -> None:
        """The wake word; `heard_at` is monotonic."""
        uid = self._session.active_uid
        if uid is None or self._panel.muted:
            self._panel.ignored(trigger.score)
            return
        wake = Wake(
            uid=uid,
            command=self._settings.command,
            timestamp=iso(self._clock.utc_now()),
            device_id=self._device_id,
            boot=self._session.state.boot,
            seq=self._session.next_seq(),
            ttl_ms=self._settings.wake_ttl_ms,
            score=round(trigger.score, 4),
            model=self._model,
        )
        self.outbox.add(wake, heard_at)
        WAKES.inc()
        self._events.emit("wake", id=wake.id, uid=uid, score=wake.score, at_s=round(trigger.at_s, 2))
        self._do_what_is_due()

    @property
    def problem(self) -> str | None:
        """Why the broker is not reached; None while it is."""
        return self._mqtt.problem

    def mute(self, muted: bool) -> None:
        """The node listens no more, or again."""
        if self._panel.mute(muted):
            self._show_session()
            self._publish_status()

    def alarm(self, name: Alarm, raised: bool) -> None:
        """Something keeps the node from hearing, or does not any more: for the light and for whoever watches topics."""
        if self._panel.alarm(name, raised):
            self._show_session()
            self._publish_status()

    # The local HTTP endpoint

    def local_logout(self, uid: str) -> bool:
        """Log out; False when another user is logged in. Raises OSError when it could not be stored."""
        decision = self._session.local_logout(uid, self._clock.monotonic())
        if decision is None:
            return False
        if not self._carry_out(decision):
            raise OSError
        return True

    def local_login(self, uid: str) -> None:
        """Wish for a session; the bridge decides."""
        self._session.local_login(uid, self._clock.monotonic())
        self._look.set()

    # MQTT

    def _connected(self) -> None:
        self._session.connected(self._clock.monotonic())
        self._events.emit("connected", broker=f"{self._mqtt.settings.host}:{self._mqtt.settings.port}")
        self._publish_status()
        self._show_session()
        self._do_what_is_due()

    def _disconnected(self) -> None:
        self._session.disconnected()
        self._bridges.clear()
        self._events.emit("disconnected", reason=self._mqtt.problem)
        self._show_session()

    def _received(self, incoming: Incoming) -> None:
        now = self._clock.monotonic()
        decision = Decision()
        match incoming.message:
            case Login() if not incoming.retained:
                decision = self._session.login(incoming.message, now)
            case Logout() if not incoming.retained:
                decision = self._session.logout(incoming.message, now)
            case Outcome():
                self._take_outcome(incoming.message, now)
            case BridgeStatus():
                self._take_bridge_status(incoming.owner, incoming.message, now)
            case _:
                log.warning("retained_command_ignored", kind=incoming.topic.kind)
        if not self._carry_out(decision):
            return  # not acknowledged: the broker or the next hello brings it again
        incoming.ack()
        if decision.ack is not None:
            self._mqtt.send(ACK, self._device_id, self._session.ack(*decision.ack))
        self._do_what_is_due()

    def _take_outcome(self, outcome: Outcome, now: float) -> None:
        heard_at = self.outbox.settled(outcome.id)
        OUTCOMES.labels(outcome.status).inc()
        if heard_at is None and outcome.status not in {"acked", "pushed"}:
            return
        took_ms = None if heard_at is None else round((now - heard_at) * 1000, 1)
        self._events.emit(
            "outcome", id=outcome.id, status=outcome.status, bridge_ms=outcome.latency_ms, round_trip_ms=took_ms
        )
        self._panel.show_fate(outcome.status, self._session.mode, reached=self._mqtt.connected)

    def _take_bridge_status(self, instance: str, status: BridgeStatus, now: float) -> None:
        born = f"{instance} {status.started_at}"
        if status.state == "online" and born not in self._bridges:
            if len(self._bridges) >= MAX_BRIDGES:
                self._bridges.clear()
            self._bridges.add(born)
            self._session.bridge_born(now)

    # Doing

    def _do_what_is_due(self) -> None:
        now = self._clock.monotonic()
        self._carry_out(self._session.tick(now))
        if not self._mqtt.connected:
            return
        for wake in self.outbox.due(now):
            if self._mqtt.send(WAKE, self._device_id, wake):
                self.outbox.sent(wake.id, now)
        if self._session.hello_due(now):
            self._mqtt.send(HELLO, self._device_id, self._session.hello(now, version=VERSION, model=self._model))

    def _carry_out(self, decision: Decision) -> bool:
        """Durable first, then visible (E1); False when it could not be stored: then the device is switched off."""
        if not self._keeper.keep(decision):
            self._show_session()
            return False
        if decision.renumbered:
            log.warning("state_went_back", boot=self._session.state.boot, advice="an older copy of the state was used")
            self._mqtt.renew()
        if decision.ended is not None or decision.began is not None:
            self._show_session()
            self._publish_status()
        return True

    def _show_session(self) -> None:
        self._panel.show(self._session.mode, reached=self._mqtt.connected)

    def _publish_status(self) -> None:
        status = self._status("online")
        self._mqtt.send(status.topic, status.owner, status.message)

    def _status(self, state: str) -> Outgoing:
        message = DeviceStatus.model_validate(
            {
                "state": state,
                "boot": self._session.state.boot,
                "seq": self._session.next_seq(),
                "session": self._session.mode,
                "version": VERSION,
                "muted": self._panel.muted,
                "alarms": sorted(self._panel.alarms),
            }
        )
        return Outgoing(DEVICE_STATUS, self._device_id, message)
