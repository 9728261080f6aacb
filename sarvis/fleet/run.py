"""Runs a fleet: all connect, words are said, the last outcomes come, all disconnect."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from contract.clock import Clock
from contract.errors import SarvisError, StartError
from infra.settings.app import AppSettings
from infra.stopping import Stop
from sarvis.fleet.members import App, Books, Device, end
from sarvis.fleet.pace import Pace
from sarvis.fleet.plan import Member, Plan, Token
from sarvis.fleet.report import Effort, Phase, Report, report

LOOK_EVERY_S = 0.05
SECOND_S = 1.0


class Teller(Protocol):
    """Shows a fleet to its user."""

    def second(self, now: Report) -> None:
        """Called every second."""
        ...

    def warn(self, words: str) -> None:
        """Something that the user should know."""
        ...


class Fleet:
    """The whole fleet, on one event loop.

    Args:
    people: at least one.
    app: how apps reach the bridge.
    state_dir: an existing folder for the devices' state.
    """

    def __init__(
        self, plan: Plan, people: Sequence[Member], app: AppSettings, token: Token, *,
        state_dir: Path, clock: Clock, teller: Teller,
    ) -> None:  # fmt: skip
        self._plan = plan
        self._people = people
        self._app = app
        self._token = token
        self._state_dir = state_dir
        self._clock = clock
        self._teller = teller
        self._books = Books(clock, max(member.settings.edge.wake_ttl_ms for member in people) / 1000)
        self._apps = plan.apps_per_user * len({member.uid for member in people})
        self._devices: list[Device] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._effort = Effort(clock.monotonic(), time.process_time())
        self._phase: Phase = "connecting"
        self._began = clock.monotonic()

    async def run(self) -> Report:
        """Run until the plan's time is over or a signal comes; returns the final report, before all disconnect.

        Raises StartError if broker or bridge are not reached, SettingsError if a token or file is unusable.
        """
        try:
            with Stop() as stop:
                return await self._run(stop)
        except ExceptionGroup as faults:
            expected = faults.subgroup(SarvisError)
            if expected is None:
                raise
            raise expected.exceptions[0] from None
        finally:
            for device in self._devices:
                device.close()

    async def _run(self, stop: Stop) -> Report:
        async with asyncio.TaskGroup() as group:
            ticking = group.create_task(self._tick(), name="every second")
            connecting = group.create_task(self._connect(group), name="connecting")
            await self._all_are_there(stop)
            connecting.cancel()
            await self._say_words(stop)
            await self._last_fates(stop)
            self._phase = "over"
            told = self._report()
            ticking.cancel()
            await end(self._tasks)
        return told

    async def _connect(self, group: asyncio.TaskGroup) -> None:
        """One user after the other, the apps first: a device may log in only if its user is alive."""
        began = self._clock.monotonic()
        users: set[str] = set()
        for number, member in enumerate(self._people):
            await self._clock.sleep(began + number / self._plan.connect_per_s - self._clock.monotonic())
            # By their kits, two devices may have the same user.
            new = member.uid not in users
            users.add(member.uid)
            for which in range(1, self._plan.apps_per_user + 1) if new else ():
                app = App(member.uid, which, self._app, self._token, self._books)
                self._tasks.append(group.create_task(app.run(), name=f"app {which} of {member.uid}"))
            device = Device(member, self._state_dir, self._books)
            device.open()
            self._devices.append(device)
            self._tasks.append(group.create_task(device.run(), name=member.device_id))

    async def _all_are_there(self, stop: Stop) -> None:
        began = self._clock.monotonic()
        all_by_s = len(self._people) / self._plan.connect_per_s + self._plan.patience_s
        here = self._books.attendance
        while not stop.asked.is_set():
            if len(here.stopped) == self._apps:
                raise StartError(f"the bridge refused every app: {next(iter(here.stopped.values()))}")
            if len(here.active) == len(self._people) and len(here.apps.here) == self._apps:
                return
            waited_s = self._clock.monotonic() - began
            if waited_s > self._plan.patience_s and not here.active:
                raise StartError(self._why_no_one_came())
            if waited_s > all_by_s:
                away = f" ({next(iter(here.stopped.values()))})" if here.stopped else ""
                self._teller.warn(
                    f"{len(here.active)} of {len(self._people)} devices have a session and {len(here.apps.here)} of "
                    f"{self._apps} apps are connected{away}; the run continues with those; a lower --connect-per-s "
                    f"may help"
                )
                return
            await self._clock.wait(stop.asked, LOOK_EVERY_S)

    def _why_no_one_came(self) -> str:
        here, mqtt = self._books.attendance, self._people[0].settings.mqtt
        within = f"within {self._plan.patience_s:g} s"
        if not here.devices.here:
            return (
                f"no device reached the broker {mqtt.url} {within}: {self._devices[0].node.problem}; "
                f"start it, or set --mqtt-url; if it requires credentials, set --kits"
            )
        if not here.apps.here:
            return (
                f"no app reached the bridge {self._app.url} {within}: {here.app_problem or 'no answer'}; "
                f"start it, or set --url"
            )
        return (
            f"devices reached the broker and apps the bridge, but no device got a session {within}: check that the "
            f"bridge {self._app.url} uses the broker {mqtt.url} with mqtt.prefix {mqtt.prefix}, and, if it requires "
            "credentials, that each device was added for its user (sarvis device add ID --uid UID)"
        )

    async def _say_words(self, stop: Stop) -> None:
        if stop.asked.is_set():
            return
        began = self._clock.monotonic()
        self._effort.begin(began, time.process_time())
        self._phase, self._began = "running", began
        pace = Pace(self._plan.rate_per_s, len(self._devices), self._plan.seed, began)
        ends = began + self._plan.run_s if self._plan.run_s is not None else float("inf")
        while not stop.asked.is_set() and (now := self._clock.monotonic()) < ends:
            for due_at, number in pace.due(now):
                self._effort.late.add(self._clock.monotonic() - due_at)
                self._devices[number].hear()
            await self._clock.wait(stop.asked, min(pace.next_at, ends, now + SECOND_S) - self._clock.monotonic())

    async def _last_fates(self, stop: Stop) -> None:
        self._phase = "settling"
        while not stop.in_haste.is_set() and self._books.tally.unsettled(self._clock.monotonic()):
            await self._clock.wait(stop.in_haste, LOOK_EVERY_S)

    async def _tick(self) -> None:
        while True:
            await self._clock.sleep(SECOND_S)
            self._books.tally.forget(self._clock.monotonic())
            self._teller.second(self._report())

    def _report(self) -> Report:
        now = self._clock.monotonic()
        self._effort.look(now, time.process_time())
        sizes = len(self._people), self._apps
        return report(
            self._phase, now - self._began, sizes, self._books.attendance, self._books.tally.wakes(), self._effort
        )
