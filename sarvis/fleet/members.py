"""The members of a fleet: a real node without audio, and a real app without a user."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app_sim.client import AppClient
from app_sim.events import AppEvent
from contract.clock import Clock
from edge_node.display.events import Light
from edge_node.session.state_file import StateFile
from edge_node.uplink.mqtt import EdgeNode
from edge_node.wakeword.gate import Trigger
from infra.settings.app import AppSettings
from sarvis.fleet.attendance import Attendance
from sarvis.fleet.plan import Member, Token
from sarvis.fleet.tally import Tally

MODEL = "none"
"""The wake-word model that these devices report."""
SCORE = 1.0


class Books:
    """The statistics of the whole fleet, and its clock."""

    def __init__(self, clock: Clock, life_s: float) -> None:
        self.clock = clock
        self.tally = Tally(life_s)
        self.attendance = Attendance()


class Device:
    """A node without audio, from `open` to `close`."""

    node: EdgeNode

    def __init__(self, member: Member, state_dir: Path, books: Books) -> None:
        self._member = member
        self._books = books
        self._state_file = StateFile(state_dir, member.device_id)

    def open(self) -> None:
        """Take its state; raises StartError when that cannot be kept."""
        self.node = EdgeNode.open(
            self._member.settings,
            self._member.device_id,
            MODEL,
            clock=self._books.clock,
            state_file=self._state_file,
            events=self,
            indicator=self,
        )

    async def run(self) -> None:
        """Live until cancelled."""
        await self.node.run()

    def hear(self) -> None:
        """Simulate that a user says the word, now."""
        now = self._books.clock.monotonic()
        self.node.heard(Trigger(at_s=now, score=SCORE), now)

    def close(self) -> None:
        """Close its state file."""
        self._state_file.close()

    def emit(self, event: str, **fields: Any) -> None:
        """Count the node's events."""
        name, attendance, tally = self._member.device_id, self._books.attendance, self._books.tally
        match event:
            case "connected":
                attendance.devices.came(name)
            case "disconnected":
                attendance.devices.left(name)
            case "logged_in":
                attendance.logged_in(name)
            case "logged_out":
                attendance.logged_out(name)
                tally.logged_out(name)
            case "wake":
                tally.made(fields["id"], name, fields["uid"], self._books.clock.monotonic())
            case "ignored":
                tally.ignored()
            case "outcome":
                tally.outcome(fields["id"], fields["status"], self._books.clock.monotonic())

    def show(self, light: Light) -> None:
        """Ignored: a simulated device has no light."""


class App:
    """A user's app."""

    def __init__(self, uid: str, number: int, settings: AppSettings, token: Token, books: Books) -> None:
        self._uid = uid
        self._name = f"{uid} {number}"
        self._books = books
        self._client = AppClient(
            settings.url,
            uid,
            # With a client name, so that a reconnecting app replaces its older socket.
            client=f"app-{number}",
            token=lambda: token(uid),
            ca_file=settings.ca_file,
            heartbeat_interval_s=settings.heartbeat_interval_s,
            reconnect_max_s=settings.reconnect_max_s,
            on_event=self._hear,
            clock=books.clock,
        )

    async def run(self) -> None:
        """Run until cancelled or refused permanently; raises SettingsError if the address or token is unusable."""
        stop = await self._client.run()
        self._books.attendance.stopped[self._name] = stop.reason

    def _hear(self, event: AppEvent) -> None:
        attendance, tally = self._books.attendance, self._books.tally
        match event.kind:
            case "connected":
                attendance.apps.came(self._name)
            case "closed":
                attendance.apps.left(self._name)
            case "retry":
                attendance.app_problem = event.detail
            case "voice_command":
                wake_id = (event.message or {}).get("id")
                tally.rang(self._name, self._uid, wake_id, self._books.clock.monotonic())
            case "message" if event.detail == "duplicate":
                tally.repeated()


async def end(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel them and wait until all have disconnected."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
