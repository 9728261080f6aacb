"""What bridges that share a ledger tell each other over MQTT: outcomes, wakes that they seek, sockets that joined."""

from collections.abc import Callable
from functools import partial

from bridge.apps.connection import AppConnection
from bridge.apps.hub import Hub
from bridge.apps.other_sockets import Socket, outdated
from bridge.cluster.peers import Peers
from bridge.wakes.relay import Relay
from bridge.wakes.shared import SharedWakes
from contract.app_socket import CloseCode
from contract.clock import Clock
from contract.messages import Joined, News, Outcomes, Seek
from contract.topics import JOINED, NEWS, OUTCOMES, SEEK, Topic
from infra.mqtt.session import Incoming, MqttSession

HEARD: tuple[Topic, ...] = (OUTCOMES, SEEK, JOINED, NEWS)
"""What a bridge subscribes to beside the topics of devices, if its ledger is shared."""


class PeerMessages:
    """Hands each message to what acts on it.

    Attributes:
        wakes: the relay of a bridge among others.
    """

    def __init__(
        self,
        instance: str,
        relay: Relay,
        hub: Hub[AppConnection],
        mqtt: MqttSession,
        clock: Clock,
        *,
        peers: Callable[[], Peers],
        looked_at: Callable[[], float],
        max_per_user: int,
        heard_news: Callable[[News], None],
        answer: Callable[[], None],
        connected_since: Callable[[], float],
    ) -> None:
        self._instance = instance
        self._hub = hub
        self._peers = peers
        self._max_per_user = max_per_user
        self._heard_news = heard_news
        self._send_joined = partial(mqtt.send, JOINED, instance)
        self._turns: dict[AppConnection, int] = {}
        self.wakes = SharedWakes(
            relay,
            hub,
            clock,
            me=instance,
            peers=peers,
            looked_at=looked_at,
            seek=partial(mqtt.send_raw, SEEK, instance),
            answer=answer,
            connected_since=connected_since,
        )

    def joined(self, connection: AppConnection, client: str | None, turn: int) -> None:
        """A socket joined here, connected in this turn; 0: in none, for it returned by itself."""
        self._turns[connection] = turn
        if turn and not self._peers().alone:
            self._tell_of(connection.uid, client, turn)

    def left(self, connection: AppConnection) -> None:
        """The socket is closed."""
        self._turns.pop(connection, None)

    def received(self, incoming: Incoming) -> bool:
        """Whether it is for this object; then it is done."""
        match incoming.message:
            case Outcomes():
                if incoming.owner != self._instance:
                    self.wakes.outcomes(incoming.message.outcomes)
            case Seek():
                self.wakes.seek(incoming.owner, incoming.message)
            case Joined():
                if incoming.owner != self._instance:
                    self._joined_elsewhere(incoming.message)
            case News():
                if incoming.owner != self._instance:
                    self._heard_news(incoming.message)
            case _:
                return False
        incoming.ack()
        return True

    def _tell_of(self, uid: str, client: str | None, turn: int) -> None:
        self._send_joined(Joined(uid=uid, client=client, turn=turn, sockets=len(self._hub.of(uid))))

    def _joined_elsewhere(self, joined: Joined) -> None:
        named = self._hub.named(joined.uid)
        mine = [Socket(connection, client, self._turns.get(connection, 0)) for connection, client in named]
        for connection, why in outdated(joined, mine, self._max_per_user):
            self._hub.leave(joined.uid, connection)
            if why == "replaced":
                connection.close(CloseCode.REPLACED, "the same client connected again, at another bridge")
            else:
                connection.close(CloseCode.TOO_MANY, "too many sockets of this user")
        for one in mine:
            if one.client is not None and one.client == joined.client and one.turn > joined.turn:
                self._tell_of(joined.uid, one.client, one.turn)  # it joined there after it was told of this one
