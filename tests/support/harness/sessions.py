"""Sessions on a store and a clock of the test: what they sent to devices and what they told, in its order."""

from collections.abc import Callable
from typing import Any

from bridge.sessions.devices import Devices
from bridge.sessions.events import Event
from bridge.sessions.memory import LedgerMemory
from bridge.sessions.service import Sessions
from bridge.storage.memory import MemoryStore
from contract.messages import Message
from contract.topics import Topic
from infra.settings.loader import Settings
from tests.support.clock import ManualClock
from tests.support.posts import none_is_posted


class SessionsHarness:
    """Nothing is loaded yet. A subclass may look at each message and each event as it comes.

    Args:
        store: a MemoryStore by default; closed by its owner.
        post: what a device with a log-out URL is posted by.
        clock: another one's, if several share it.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        store: Any = None,
        post: Callable[..., Any] = none_is_posted,
        clock: ManualClock | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self.store = MemoryStore() if store is None else store
        self.clock = clock or ManualClock()
        self.sent: list[tuple[str, Message]] = []
        self.events: list[Event] = []
        self._post = post
        self.sessions = self.another()

    def another(self) -> Sessions:
        """Sessions on the same store and clock, as after a restart."""
        self.memory = LedgerMemory(self.settings.bridge, self.clock, shared=self.store.shared)
        devices = Devices(self._send, self._post)
        return Sessions(self.store, self.settings, self.clock, devices, self._on_event, self.memory)

    def _send(self, topic: Topic, owner: str, message: Message) -> bool:
        assert topic.model is type(message)
        self.sent.append((owner, message))
        return True

    def _on_event(self, event: Event) -> None:
        self.events.append(event)
