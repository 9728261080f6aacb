"""What the broker knows of a client, connected or absent; no I/O.

aMQTT's session has a machine of states, two queues and twenty fields that this broker does not use: 30 KiB for each
client.
"""

from dataclasses import dataclass, field

from broker.server.journal import Message
from broker.server.offline_queue import OfflineQueue

MAX_PACKET_ID = 65_535


@dataclass(frozen=True, slots=True)
class Will:
    """The last will of a client."""

    topic: str
    data: bytes
    qos: int
    retain: bool


@dataclass(slots=True, eq=False)
class Session:
    """A client's session.

    Attributes:
    queue: what came while it was absent.
    inflight_out: messages that it has not acknowledged, by packet id, oldest first.
    inflight_in: packet ids of its QoS 2 messages before PUBREL.
    present: whether CONNACK says that the session existed before.
    """

    client_id: str
    username: str | None
    clean: bool
    queue: OfflineQueue
    password: str | None = None
    keep_alive_s: int = 0
    will: Will | None = None
    present: bool = False
    inflight_out: dict[int, Message] = field(default_factory=dict)
    inflight_in: set[int] = field(default_factory=set)
    _packet_id: int = 0

    def next_packet_id(self) -> int:
        """A packet id that is not in use; there are more of them than `Limits.max_unacked` allows messages."""
        while True:
            self._packet_id = self._packet_id % MAX_PACKET_ID + 1
            if self._packet_id not in self.inflight_out:
                return self._packet_id

    def clear_queues(self) -> None:
        """AMQTT calls it at shutdown; what is on disk stays there."""
