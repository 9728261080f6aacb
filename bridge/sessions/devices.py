"""How sessions reach devices."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bridge.storage.records import PendingLogout
from contract.messages import Message
from contract.topics import Topic


@dataclass(slots=True)
class Devices:
    """The two ways to a device.

    Attributes:
        send: publishes a message over MQTT; False when no broker is reached.
        post: posts a log-out over HTTP; None when the device obeyed, else why not. Never two at a time to one device.
    """

    send: Callable[[Topic, str, Message], bool]
    post: Callable[[PendingLogout], Awaitable[str | None]]
