"""The node of an installation without MQTT (`edge.uplink = "http"`): the documented trigger out, the log-out in."""

import asyncio
import contextlib
from typing import Any

import httpx2

from contract import tls
from contract.clock import Clock, iso
from contract.errors import SettingsError
from contract.messages import Wake, new_id
from contract.redaction import describe_request, shown_url
from contract.secrets import secret_of
from contract.sections.edge import EdgeSettings
from contract.telemetry import get_logger
from edge_node.events import Alarm, Indicator, Told
from edge_node.gate import Trigger
from edge_node.keeping import Keeper
from edge_node.local_session import LocalSession
from edge_node.metrics import OUTCOMES, WAKES
from edge_node.outbox import WakeOutbox
from edge_node.panel import Mode, Panel
from edge_node.session import Decision
from edge_node.state import StateFile

TRIGGER = "/api/voice-command/trigger"
CONNECT_S = 2.0
ANSWER_S = 5.0
LOOK_EVERY_S = 0.25

_NOT_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.InvalidURL, UnicodeError)
_OK, _TOO_MANY, _UNAVAILABLE = 200, 429, 503

log = get_logger("edge")


class HttpNode:
    """One device that speaks only HTTP; all of it on the event loop.

    A wake is posted again only if the bridge surely has not taken it, so that no phone rings twice, and not beyond its
    life. Who is logged in is known here alone, see `LocalSession`.

    Attributes:
        outbox: wakes whose fate is not known.
    """

    def __init__(
        self,
        settings: EdgeSettings,
        *,
        clock: Clock,
        state_file: StateFile,
        events: Told,
        indicator: Indicator,
    ) -> None:
        """Raises SettingsError if a credential or certificate cannot be read, StartError as `StateFile.open`."""
        assert settings.bridge_url is not None  # noqa: S101 - the settings see to that
        self._settings = settings
        self._credential()  # a file that cannot be read is told at the start
        self._clock = clock
        self._events = events
        self._url = settings.bridge_url + TRIGGER
        self._shown_url = shown_url(self._url)
        self._panel = Panel(events, indicator)
        self.outbox = WakeOutbox()
        self._session = LocalSession(state_file.open(), settings.uid, new_id=new_id)
        self._keeper = Keeper(self._session, state_file, self.outbox, events)
        self._reached = True
        self._look = asyncio.Event()
        verify = tls.client_context(settings.ca_file, who="edge") if self._url.startswith("https:") else False
        self._client = httpx2.AsyncClient(
            trust_env=False, verify=verify, timeout=httpx2.Timeout(ANSWER_S, connect=CONNECT_S)
        )

    async def run(self) -> None:
        """Live until cancelled."""
        self._panel.start()
        self._carry_out(self._session.begin())
        try:
            while True:
                for wake in self.outbox.due(self._clock.monotonic()):
                    await self._post(wake)
                self._look.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_EVERY_S):
                        await self._look.wait()
        finally:
            await self._client.aclose()

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
            ttl_ms=self._settings.wake_ttl_ms,
            score=round(trigger.score, 4),
        )
        self.outbox.add(wake, heard_at)
        WAKES.inc()
        self._events.emit("wake", id=wake.id, uid=uid, score=wake.score, at_s=round(trigger.at_s, 2))
        self._look.set()

    def mute(self, muted: bool) -> None:
        """The node listens no more, or again."""
        if self._panel.mute(muted):
            self._show()

    def alarm(self, name: Alarm, raised: bool) -> None:
        """Something keeps the node from hearing, or does not any more."""
        if self._panel.alarm(name, raised):
            self._show()

    def local_logout(self, uid: str) -> bool:
        """Log out; False when another user is logged in. Raises OSError when it could not be stored."""
        decision = self._session.logout(uid)
        if decision is None:
            return False
        if not self._carry_out(decision):
            raise OSError
        return True

    def local_login(self, uid: str) -> None:
        """Log in; raises OSError when it could not be stored."""
        if not self._carry_out(self._session.login(uid)):
            raise OSError

    def _carry_out(self, decision: Decision) -> bool:
        kept = self._keeper.keep(decision)
        self._show()
        return kept

    def _show(self) -> None:
        self._panel.show(self._mode, reached=self._reached)

    @property
    def _mode(self) -> Mode:
        return "standby" if self._session.active_uid is None else "active"

    async def _post(self, wake: Wake) -> None:
        document = wake.model_dump(include={"uid", "command", "timestamp"})
        try:
            response = await self._client.post(self._url, json=document, headers=self._credential())
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
        """The bridge has not taken it."""
        self.outbox.sent(wake.id, self._clock.monotonic())
        self._note(reached=False)
        log.warning("trigger_not_taken", url=self._shown_url, why=why)

    def _settle(self, wake: Wake, status: str, *, reached: bool, why: str | None = None) -> None:
        heard_at = self.outbox.settled(wake.id)
        OUTCOMES.labels(status).inc()
        if why is not None:
            log.warning("trigger_failed", url=self._shown_url, status=status, why=why)
        self._note(reached=reached)
        if heard_at is None:
            return  # of somebody who was logged out meanwhile
        took_ms = round((self._clock.monotonic() - heard_at) * 1000, 1)
        self._events.emit("outcome", id=wake.id, status=status, round_trip_ms=took_ms)
        self._panel.show_fate(status, self._mode, reached=self._reached)

    def _note(self, *, reached: bool) -> None:
        if reached != self._reached:
            self._reached = reached
            self._events.emit("connected" if reached else "disconnected", bridge=self._shown_url)
            self._show()

    def _credential(self) -> dict[str, str]:
        """Read anew each time, so that a new key needs no restart."""
        key = secret_of(self._settings.api_key, self._settings.api_key_file, "edge.api_key_file", "key")
        return {} if key is None else {"authorization": f"Bearer {key}"}


def _object(response: httpx2.Response) -> dict[str, Any] | None:
    try:
        answer = response.json()
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None
