"""Collects what `sarvis why` needs: stories of wakes, states of devices, comings and goings of apps, and outages."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from pathlib import Path

from bridge.apps.connection import AppConnection
from bridge.stories.file import encoded
from bridge.stories.history import DeviceHistory, DeviceStateName
from bridge.stories.otlp import Collector
from bridge.stories.records import DeviceState, Event, EventKind, Run
from bridge.stories.traces import Traces
from bridge.stories.writer import StoryWriter
from bridge.wakes.minutes import MINUTES, Minute
from bridge.wakes.story import StoryBook
from contract.clock import Clock
from contract.errors import SettingsError
from contract.messages import DeviceStatus, Hello
from infra.settings.loader import Settings

MOST_EVENTS = 20_000
"""Between two calls of `flush`."""


class Chronicle:
    """Everything here does nothing if `bridge.stories_days` is 0.

    Attributes:
        book: for the wakes; None if stories are off.
        told: how often there was something new to write.
    """

    def __init__(self, settings: Settings, clock: Clock, version: str) -> None:
        self._clock = clock
        self._settings = settings
        self._version = version
        self._instance = settings.bridge.instance
        self._on = settings.bridge.stories_days > 0
        self.book = StoryBook(clock) if self._on else None
        self.told = 0
        self._history = DeviceHistory()
        self._writer: StoryWriter | None = None
        self._traces: Traces | None = None
        self._events: list[Event] = []
        self._numbers = count(1)
        self._joined: dict[AppConnection, float] = {}
        self._problems: dict[EventKind, str | None] = {}

    @asynccontextmanager
    async def running(self, file: Path | None) -> AsyncIterator[None]:
        """Inside this block everything is written to the file; without one it is only collected, and dropped.

        Wakes are also sent as traces, if `traces.endpoint` names a collector. Raises StartError, SettingsError before
        it begins.
        """
        traces = self._settings.traces
        if traces.endpoint is not None and not self._on:
            raise SettingsError("traces.endpoint needs bridge.stories_days above 0: traces are made of stories")
        async with AsyncExitStack() as running:
            if traces.endpoint is not None:
                collector = Collector(traces.endpoint, self._version)
                self._traces = Traces(collector, self._instance, self._clock, traces.share)
                await running.enter_async_context(self._traces.running())
            if self._on and file is not None:
                now = self._now()
                run = Run(self._instance, now, now, None, self._version, self._settings.push.enabled)
                self._writer = StoryWriter(file, self._settings.bridge.stories_days, run, self._now)
                await running.enter_async_context(self._writer.running(self._history.load))
            try:
                yield
            finally:
                self.flush()

    def joined(self, connection: AppConnection, client: str | None) -> None:
        """A socket is in the hub; it gets its label."""
        connection.label = client or f"app-{next(self._numbers)}"
        if self._on:
            self._joined[connection] = self._now()
            self._tell("app_joined", connection.uid, label=connection.label, mode=connection.mode)

    def left(self, connection: AppConnection) -> None:
        """A socket is closed; counted once."""
        since = self._joined.pop(connection, None)
        if since is not None:
            lived_s = round(self._now() - since, 1)
            self._tell("app_left", connection.uid, label=connection.label, code=connection.ended, lived_s=lived_s)

    def status(self, device_id: str, status: DeviceStatus, *, retained: bool) -> None:
        """A device's status or last will came."""
        if self._on:
            self._history.status(device_id, status, self._now(), retained=retained)

    def report(self, device_id: str, report: object) -> None:
        """A hello or an ack came from a device."""
        if not self._on:
            return
        if isinstance(report, Hello):
            self._history.report(device_id, report.version, report.model, self._now())
        else:
            self._history.seen(device_id, self._now())

    def flooded(self, device_id: str, kind: str, limit: str) -> None:
        """A message of a device was refused unread, because it sends too many."""
        self._tell("flooded", device_id, topic=kind, limit=limit)

    def count(self, state: DeviceStateName) -> int:
        """How many devices are in this state."""
        return self._history.count(state)

    def device(self, device_id: str) -> DeviceState | None:
        """The last known state of a device: a copy; None if it is not known, or if stories are off."""
        return self._history.state_of(device_id)

    def devices_in(self, state: DeviceStateName) -> list[str]:
        """The names of the devices in this state, in no order."""
        return self._history.devices_in(state)

    def longest_in(self, state: DeviceStateName, most: int) -> list[DeviceState]:
        """What is known of the devices that are in this state for the longest time, the longest first: copies."""
        return self._history.longest_in(state, most)

    def hour(self) -> list[Minute | None]:
        """The wakes of the last 60 minutes, the current one last; None for minutes of which nothing is known."""
        return [None] * MINUTES if self.book is None else self.book.minutes.hour(self._now())

    def versions(self) -> dict[str, int]:
        """How many known devices have each version of the software; "" for those that do not say."""
        return self._history.versions()

    def models(self) -> dict[str, int]:
        """How many known devices have each wake-word model; "" for those that do not say."""
        return self._history.models()

    def since(self, connection: AppConnection) -> float | None:
        """Unix time at which a socket joined; None if stories are off."""
        return self._joined.get(connection)

    def conditions(self, *, broker: str | None, ledger: str | None) -> None:
        """Why the broker is not reached, why the ledger cannot be written; None if they can."""
        self._condition("broker", broker)
        self._condition("ledger", ledger)

    async def forget(self, uid: str, name: str) -> int:
        """Delete a user's stories and events; returns how many there were. Raises StoriesError.

        `name` stands in the place of the user in the stories of others.
        """
        for connection in [one for one in self._joined if one.uid == uid]:
            del self._joined[connection]
        self._events = [event for event in self._events if event.about != uid]
        self.flush()
        return 0 if self._writer is None else await self._writer.forget(uid, name)

    def flush(self) -> None:
        """Hand over what is new; call it often."""
        stories = [] if self.book is None else self.book.take()
        if self._traces is not None and stories:
            self._traces.put(encoded(stories), len(stories))
        if self._writer is None:
            return
        news, states = self._history.take()
        events, self._events = self._events, []
        self.told += bool(stories or events or news or states)
        self._writer.put(stories, [*events, *news], states)

    def _condition(self, kind: EventKind, problem: str | None) -> None:
        before = self._problems.get(kind)
        if problem != before and self._on:
            self._problems[kind] = problem
            # Another reason for the same outage is no news.
            if problem is None or before is None:
                self._tell(kind, self._instance, problem=problem)

    def _tell(self, kind: EventKind, about: str, **told: object) -> None:
        if self._on and len(self._events) < MOST_EVENTS:
            self._events.append(Event(self._now(), kind, about, told))

    def _now(self) -> float:
        return self._clock.utc_now().timestamp()
