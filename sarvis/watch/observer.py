"""An observer's connection to the broker: what passes, in order; a slow reader loses messages and is told how many."""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TypeAlias

from broker.access.acl import role_of
from contract.clock import Clock
from contract.errors import SettingsError, StartError
from infra.mqtt import session as mqtt
from infra.mqtt.probe import new_client_id
from infra.mqtt.session import AnyTopic, Incoming, MqttSession
from infra.settings.broker import MqttSettings
from infra.settings.loader import Settings
from sarvis.broker_look import identity_of
from sarvis.watch.passing import Passing, passing

MOST_WAITING = 10_000
"""Messages that wait to be shown; of more, the oldest are dropped."""

LOOK_EVERY_S = 0.05


class Dropped(int):
    """The number of messages that were not shown, because they came faster than they could be."""


Seen: TypeAlias = Passing | Dropped


class Observer:
    """Hears everything under a filter, with a client id of its own and QoS 0: the broker keeps nothing for it.

    `tell` is called with what happens to the connection after it stood once.
    """

    def __init__(self, settings: MqttSettings, topic_filter: str, clock: Clock, tell: Callable[[str], None]) -> None:
        self._prefix = settings.prefix
        self._nodes = len(settings.nodes)
        self._tell = tell
        self._stood = False
        self._waiting: deque[Passing] = deque()
        self._dropped = 0
        self._news = asyncio.Event()
        self._mqtt = MqttSession(
            settings,
            new_client_id("watch"),
            clock,
            subscriptions=[AnyTopic(topic_filter)],
            on_message=_never,
            last_will=None,
            on_connected=self._connected,
            on_disconnected=self._lost,
            on_raw=self._came,
        )

    async def run(self) -> None:
        """Stay connected until cancelled."""
        await self._mqtt.run()

    async def ready(self) -> None:
        """Return when it hears; raises StartError if no address of the broker accepts the first connection."""
        while not self._stood:
            problems = self._mqtt.problems
            if len(problems) >= self._nodes:
                raise StartError("; ".join(problems.values()))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), LOOK_EVERY_S)

    async def next(self) -> Seen:
        """What passed next; waits for it."""
        await asyncio.sleep(0)  # what has arrived is read before what waits is shown
        while not self._waiting:
            self._news.clear()
            await self._news.wait()
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            return Dropped(dropped)
        return self._waiting.popleft()

    def _connected(self) -> None:
        if self._stood:
            self._tell("connected again; what passed meanwhile was not seen")
        self._stood = True
        self._news.set()

    def _lost(self) -> None:
        if self._mqtt.problem is not None:  # else this process ends it
            self._tell(f"{self._mqtt.problem}; trying again")

    def _came(self, name: bytes, payload: bytes, retained: bool) -> None:
        if len(self._waiting) >= MOST_WAITING:
            self._waiting.popleft()
            self._dropped += 1
        self._waiting.append(passing(self._prefix, name, payload, retained=retained))
        self._news.set()


def check(settings: Settings) -> None:
    """Raises SettingsError if files are missing, or if these settings are those of a bridge or of this device.

    Mosquitto, as `sarvis broker config` sets it up, would end the connection of that bridge or device.
    """
    mqtt.check(settings.mqtt)
    who = identity_of(settings.mqtt.username, settings.mqtt.cert_file)
    if who is not None and (role_of(who) == "bridge" or who == settings.edge.device_id):
        raise SettingsError(
            f"these settings connect as {who}, whose own connection a broker may end for this one; use an operator's: "
            f"sarvis watch --config hub/operator/sarvis.toml"
        )


def _never(_incoming: Incoming) -> None:
    raise AssertionError("an observer gets raw messages")
