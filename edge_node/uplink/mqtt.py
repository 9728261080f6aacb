"""A node on MQTT: publishes wakes, obeys the bridge's commands, shows the session."""

import asyncio
import random
from collections.abc import Callable
from importlib.metadata import version
from typing import Self

from contract import client_ids
from contract.clock import Clock
from contract.messages import BridgeStatus, DeviceStatus, Login, Logout, ModelOrder, ModelReport, Outcome, new_id
from contract.topics import ACK, BRIDGE_STATUS, DEVICE_STATUS, HELLO, LOGIN, LOGOUT, MODEL, MODEL_REPORT, OUTCOME, WAKE
from edge_node.display.events import Alarm, Indicator, Told
from edge_node.display.status import StatusDisplay
from edge_node.metrics import OUTCOMES
from edge_node.session.persist import DecisionKeeper
from edge_node.session.rules import Decision, EdgeSession, EdgeState
from edge_node.session.state_file import StateFile
from edge_node.session.wake_outbox import WakeOutbox
from edge_node.uplink.hearing import WakeMaker
from edge_node.wakeword.gate import Trigger
from edge_node.wakeword.near import NearMisses
from infra.host_port import host_port
from infra.mqtt.session import Incoming, MqttSession, Outgoing, Subscription
from infra.settings.loader import Settings
from infra.tasks import Tasks
from infra.telemetry import get_logger

VERSION = version("sarvis")
LOOK_EVERY_S = 0.25
NEAR_EVERY_S = 60.0
MAX_BRIDGES = 100

log = get_logger("edge")


class EdgeNode:
    """One device, made by `open`. Everything here runs on the event loop; the audio thread calls `heard` through it.

    Attributes:
    outbox: wakes without an outcome.
    on_model_order: called with each request for another model; none comes without `edge.model_key`.
    """

    def __init__(
        self,
        settings: Settings,
        device_id: str,
        model: str,
        *,
        clock: Clock,
        state_file: StateFile,
        state: EdgeState,
        events: Told,
        indicator: Indicator,
    ) -> None:
        self.on_model_order: Callable[[ModelOrder], None] = lambda _: None
        self._settings = settings.edge
        self._device_id = device_id
        self._model = model
        self._clock = clock
        self._events = events
        self._status_display = StatusDisplay(events, indicator)
        self._session = EdgeSession(state, settings.edge.uid, clock.monotonic(), new_id=new_id, jitter=random.random)
        self.outbox = WakeOutbox()
        self._wakes = WakeMaker(
            settings.edge, clock=clock, display=self._status_display, outbox=self.outbox, events=events
        )
        self._keeper = DecisionKeeper(self._session, state_file, self.outbox, events)
        self._near = NearMisses()
        self._near_due = float("-inf")
        self._look = asyncio.Event()
        self._bridges: set[str] = set()
        self._mqtt = MqttSession(
            settings.mqtt,
            client_ids.of_device(device_id),
            clock,
            subscriptions=[
                Subscription(LOGIN, device_id),
                Subscription(LOGOUT, device_id),
                Subscription(OUTCOME, device_id),
                Subscription(BRIDGE_STATUS),
                *([Subscription(MODEL, device_id)] if settings.edge.model_key is not None else []),
            ],
            on_message=self._received,
            last_will=lambda: self._status("offline"),
            on_connected=self._connected,
            on_disconnected=self._disconnected,
        )

    @classmethod
    def open(
        cls,
        settings: Settings,
        device_id: str,
        model: str,
        *,
        clock: Clock,
        state_file: StateFile,
        events: Told,
        indicator: Indicator,
    ) -> Self:
        """A node in the state of its file, which the caller closes; raises StartError as `StateFile.open`."""
        state = state_file.open()
        return cls(
            settings,
            device_id,
            model,
            clock=clock,
            state_file=state_file,
            state=state,
            events=events,
            indicator=indicator,
        )

    async def run(self) -> None:
        """Run until cancelled; raises the error that ended the connection, if it was an internal one."""
        self._status_display.start()
        # Only an internal error ends the connection: better a new process than one that receives nothing.
        async with Tasks() as tasks:
            tasks.start(self._mqtt.run(), "mqtt")
            self._show_session()
            while True:
                self._do_what_is_due()
                self._look.clear()
                await self._clock.wait(self._look, LOOK_EVERY_S)

    def heard(self, trigger: Trigger, heard_at: float) -> None:
        """The wake word was recognised; `heard_at` is monotonic."""
        if self._wakes.make(trigger, heard_at, self._session.active_uid, self._numbered):
            self._do_what_is_due()

    def _numbered(self) -> dict[str, object]:
        """What tells this device's wakes apart and which model heard them."""
        seq = self._session.next_seq()
        return {"device_id": self._device_id, "boot": self._session.state.boot, "seq": seq, "model": self._model}

    @property
    def device_id(self) -> str:
        """The id of the device."""
        return self._device_id

    @property
    def problem(self) -> str | None:
        """Why the broker is not reached; None while it is."""
        return self._mqtt.problem

    def mute(self, muted: bool) -> None:
        """The node was muted or unmuted."""
        if self._status_display.mute(muted):
            self._show_session()
            self._publish_status()

    def alarm(self, name: Alarm, raised: bool) -> None:
        """A condition keeps the node from receiving sound, or no longer does: for the light and the status topic."""
        if self._status_display.alarm(name, raised):
            self._show_session()
            self._publish_status()

    def near(self, misses: NearMisses) -> None:
        """What was nearly a wake until now: into the status, at most once a minute."""
        now = self._clock.monotonic()
        if misses.count == self._near.count or now < self._near_due:
            return
        self._near, self._near_due = misses, now + NEAR_EVERY_S
        self._publish_status()

    def tell_model(self, report: ModelReport) -> None:
        """Tell what became of a request for another model; lost while no broker is reached: the bridge asks again."""
        self._mqtt.send(MODEL_REPORT, self._device_id, report)

    def uses_model(self, name: str) -> None:
        """Another model hears from now on: wakes have its name, and the bridge is told."""
        self._model = name
        self._session.report_soon(self._clock.monotonic())
        self._events.emit("model", model=name)

    # For the local HTTP endpoint:

    def local_logout(self, uid: str) -> bool:
        """Log out; False if another user is logged in. Raises OSError if it could not be stored."""
        decision = self._session.local_logout(uid, self._clock.monotonic())
        if decision is None:
            return False
        if not self._carry_out(decision):
            raise OSError
        return True

    def local_login(self, uid: str) -> None:
        """Request a session; the bridge decides."""
        self._session.local_login(uid, self._clock.monotonic())
        self._look.set()

    # MQTT:

    def _connected(self) -> None:
        self._session.connected(self._clock.monotonic())
        self._events.emit("connected", broker=host_port(self._mqtt.node.host, self._mqtt.node.port))
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
            case ModelOrder() if not incoming.retained:
                self.on_model_order(incoming.message)
            case BridgeStatus():
                self._take_bridge_status(incoming.owner, incoming.message, now)
            case _:
                log.warning("retained_command_ignored", kind=incoming.topic.kind)
        if not self._carry_out(decision):
            return  # not acknowledged: the broker or the next hello causes it again
        incoming.ack()
        if decision.ack is not None:
            self._mqtt.send(ACK, self._device_id, self._session.ack(*decision.ack))
        self._do_what_is_due()

    def _take_outcome(self, outcome: Outcome, now: float) -> None:
        heard_at = self.outbox.heard_at(outcome.id)
        OUTCOMES.labels(outcome.status).inc()
        if not self.outbox.settled(outcome.id, outcome.status):
            return
        took_ms = None if heard_at is None else round((now - heard_at) * 1000, 1)
        self._events.emit(
            "outcome", id=outcome.id, status=outcome.status, bridge_ms=outcome.latency_ms, round_trip_ms=took_ms
        )
        self._status_display.show_fate(outcome.status, self._session.mode, reached=self._mqtt.connected)

    def _take_bridge_status(self, instance: str, status: BridgeStatus, now: float) -> None:
        # One that joins others has missed nothing: else a whole fleet would say hello to each.
        born = status.era or f"{instance} {status.started_at}"
        if status.state == "online" and born not in self._bridges:
            if len(self._bridges) >= MAX_BRIDGES:
                self._bridges.clear()
            self._bridges.add(born)
            self._session.bridge_born(now)

    # Internal:

    def _do_what_is_due(self) -> None:
        now = self._clock.monotonic()
        self._carry_out(self._session.tick(now))
        if not self._mqtt.connected:
            return
        for due in self.outbox.due(now):
            qos = WAKE.repeat_qos if due.again else WAKE.qos
            if self._mqtt.send(WAKE, self._device_id, due.wake, qos=qos):
                self.outbox.sent(due.wake.id, now)
        if self._session.hello_due(now):
            self._mqtt.send(HELLO, self._device_id, self._session.hello(now, version=VERSION, model=self._model))

    def _carry_out(self, decision: Decision) -> bool:
        """Durable first, then visible (E1); False if it could not be stored: then no user is logged in."""
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
        self._status_display.show(self._session.mode, reached=self._mqtt.connected)

    def _publish_status(self) -> None:
        status = self._status("online")
        self._mqtt.send(status.topic, status.owner, status.message)

    def _status(self, state: str) -> Outgoing:
        misses = self._near
        near = (
            {"near": misses.count, "best": round(misses.best, 4), "threshold": round(misses.threshold, 4)}
            if misses.count
            else {}
        )
        message = DeviceStatus.model_validate(
            {
                "state": state,
                "boot": self._session.state.boot,
                "seq": self._session.next_seq(),
                "session": self._session.mode,
                "version": VERSION,
                "muted": self._status_display.muted,
                "alarms": sorted(self._status_display.alarms),
                **near,
            }
        )
        return Outgoing(DEVICE_STATUS, self._device_id, message)
