"""A node without MQTT (`edge.uplink = "http"`): posts the documented trigger, serves the documented log-out."""

import asyncio
from typing import Any, Self

import httpx2

from contract.clock import Clock
from contract.errors import SettingsError
from contract.messages import Wake, new_id
from edge_node.display.events import Alarm, Indicator, Told
from edge_node.display.status import Mode, StatusDisplay
from edge_node.metrics import OUTCOMES
from edge_node.session.local_rules import LocalSession
from edge_node.session.persist import DecisionKeeper
from edge_node.session.rules import Decision, EdgeState
from edge_node.session.state_file import StateFile
from edge_node.session.wake_outbox import WakeOutbox
from edge_node.uplink.hearing import WakeMaker
from edge_node.wakeword.gate import Trigger
from edge_node.wakeword.near import NearMisses
from infra import tls
from infra.redaction import describe_request, shown_url
from infra.secrets import secret_of
from infra.settings.edge import EdgeSettings
from infra.telemetry import get_logger

TRIGGER = "/api/voice-command/trigger"
CONNECT_S = 2.0
ANSWER_S = 5.0
LOOK_EVERY_S = 0.25

_NOT_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.InvalidURL, UnicodeError)
_OK, _TOO_MANY, _UNAVAILABLE = 200, 429, 503

log = get_logger("edge")


class HttpNode:
    """One device that speaks only HTTP, made by `open`; all of it on the event loop.

    A wake is posted again only if the bridge surely has not accepted it, so that no phone rings twice, and not beyond
    its
    life. Only this device decides who is logged in, see `LocalSession`.

    Attributes:
    outbox: wakes without an outcome.
    """

    def __init__(
        self,
        settings: EdgeSettings,
        client: httpx2.AsyncClient,
        *,
        clock: Clock,
        state_file: StateFile,
        state: EdgeState,
        events: Told,
        indicator: Indicator,
    ) -> None:
        self._settings = settings
        self._client = client
        self._clock = clock
        self._events = events
        self._url = f"{settings.bridge_url}{TRIGGER}"
        self._shown_url = shown_url(self._url)
        self._status_display = StatusDisplay(events, indicator)
        self.outbox = WakeOutbox()
        self._wakes = WakeMaker(settings, clock=clock, display=self._status_display, outbox=self.outbox, events=events)
        self._session = LocalSession(state, settings.uid, new_id=new_id)
        self._keeper = DecisionKeeper(self._session, state_file, self.outbox, events)
        self._reached = True
        self._look = asyncio.Event()

    @classmethod
    def open(
        cls, settings: EdgeSettings, *, clock: Clock, state_file: StateFile, events: Told, indicator: Indicator
    ) -> Self:
        """A node in the state of its file, which the caller closes.

        Raises SettingsError if a credential or certificate cannot be read, StartError as `StateFile.open`.
        """
        _credential(settings)  # an unreadable file is reported at the start
        is_secure = (settings.bridge_url or "").startswith("https:")
        verify = tls.client_context(settings.ca_file, who="edge") if is_secure else False
        timeout = httpx2.Timeout(ANSWER_S, connect=CONNECT_S)
        state = state_file.open()
        client = httpx2.AsyncClient(trust_env=False, verify=verify, timeout=timeout)
        return cls(
            settings, client, clock=clock, state_file=state_file, state=state, events=events, indicator=indicator
        )

    async def run(self) -> None:
        """Run until cancelled."""
        self._status_display.start()
        self._carry_out(self._session.begin())
        try:
            while True:
                for due in self.outbox.due(self._clock.monotonic()):
                    await self._post(due.wake)
                self._look.clear()
                await self._clock.wait(self._look, LOOK_EVERY_S)
        finally:
            await self._client.aclose()

    def heard(self, trigger: Trigger, heard_at: float) -> None:
        """The wake word was recognised; `heard_at` is monotonic."""
        if self._wakes.make(trigger, heard_at, self._session.active_uid):
            self._look.set()

    @property
    def device_id(self) -> str:
        """The id of the device."""
        return self._settings.device_id or ""

    @property
    def problem(self) -> str | None:
        """Why the last wake did not reach the bridge; None if none was lost."""
        return None if self._reached else f"the bridge at {self._shown_url} was not reached"

    def mute(self, muted: bool) -> None:
        """The node was muted or unmuted."""
        if self._status_display.mute(muted):
            self._show()

    def alarm(self, name: Alarm, raised: bool) -> None:
        """A condition keeps the node from receiving sound, or no longer does."""
        if self._status_display.alarm(name, raised):
            self._show()

    def near(self, misses: NearMisses) -> None:
        """Nothing: the documented HTTP contract has no place for it."""

    def local_logout(self, uid: str) -> bool:
        """Log out; False if another user is logged in. Raises OSError if it could not be stored."""
        decision = self._session.logout(uid)
        if decision is None:
            return False
        if not self._carry_out(decision):
            raise OSError
        return True

    def local_login(self, uid: str) -> None:
        """Log in; raises OSError if it could not be stored."""
        if not self._carry_out(self._session.login(uid)):
            raise OSError

    def _carry_out(self, decision: Decision) -> bool:
        kept = self._keeper.keep(decision)
        self._show()
        return kept

    def _show(self) -> None:
        self._status_display.show(self._mode, reached=self._reached)

    @property
    def _mode(self) -> Mode:
        return "standby" if self._session.active_uid is None else "active"

    async def _post(self, wake: Wake) -> None:
        document = wake.model_dump(include={"uid", "command", "timestamp"})
        try:
            response = await self._client.post(self._url, json=document, headers=_credential(self._settings))
        except SettingsError as error:
            self._again(wake, str(error))
        except _NOT_SENT as error:
            self._again(wake, describe_request(error, self._url))
        except httpx2.HTTPError as error:
            self._settle(wake, "unknown", reached=False, why=describe_request(error, self._url))
        else:
            if response.status_code in {_TOO_MANY, _UNAVAILABLE}:
                self._again(wake, f"it answered {response.status_code}")
            else:
                self._take(wake, response)

    def _take(self, wake: Wake, response: httpx2.Response) -> None:
        answer = _object(response) if response.status_code == _OK else None
        if answer is not None and isinstance(answer.get("success"), bool):
            self._settle(wake, "sent" if answer["success"] else "user_not_connected", reached=True)
        else:
            self._settle(wake, "rejected", reached=True, why=f"it answered {response.status_code}")

    def _again(self, wake: Wake, why: str) -> None:
        """Post again: the bridge has not accepted it."""
        self.outbox.sent(wake.id, self._clock.monotonic())
        self._note(reached=False)
        log.warning("trigger_not_taken", url=self._shown_url, why=why)

    def _settle(self, wake: Wake, status: str, *, reached: bool, why: str | None = None) -> None:
        heard_at = self.outbox.heard_at(wake.id)
        self.outbox.settled(wake.id, status)
        OUTCOMES.labels(status).inc()
        if why is not None:
            log.warning("trigger_failed", url=self._shown_url, status=status, why=why)
        self._note(reached=reached)
        if heard_at is None:
            return  # of a user who was logged out meanwhile
        took_ms = round((self._clock.monotonic() - heard_at) * 1000, 1)
        self._events.emit("outcome", id=wake.id, status=status, round_trip_ms=took_ms)
        self._status_display.show_fate(status, self._mode, reached=self._reached)

    def _note(self, *, reached: bool) -> None:
        if reached != self._reached:
            self._reached = reached
            self._events.emit("connected" if reached else "disconnected", bridge=self._shown_url)
            self._show()


def _credential(settings: EdgeSettings) -> dict[str, str]:
    """Read at each call, so that a new key needs no restart."""
    key = secret_of(settings.api_key, settings.api_key_file, "edge.api_key_file", "key")
    return {} if key is None else {"authorization": f"Bearer {key}"}


def _object(response: httpx2.Response) -> dict[str, Any] | None:
    try:
        answer = response.json()
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None
