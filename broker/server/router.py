"""Routes a message to its subscribers, without aMQTT's broadcast queue and tasks."""

import logging
from typing import Any, NamedTuple

from amqtt.broker import Broker
from amqtt.contexts import BrokerConfig, ListenerConfig

from broker.server.auth import Authorizer
from broker.server.codec import MAX_QOS, Publish
from broker.server.journal import Journal, Message
from broker.server.limits import Limits
from broker.server.metrics import DROPPED, MESSAGES
from broker.server.offline_queue import QueuedBytes
from broker.server.session import Session
from broker.server.subscriptions import Subscriptions
from broker.topic_filters import has_wildcard, matches, valid_filter, valid_topic

log = logging.getLogger(__name__)

REFUSED = 0x80
MATCHES_PER_MESSAGE = 50
"""This many comparisons of a filter with a topic cost as much as one message."""


class Retained(NamedTuple):
    """The retained message of a topic."""

    data: bytes
    qos: int


class RoutingBroker(Broker):  # type: ignore[misc]  # aMQTT has no type information
    """Routes within one call without an await: tables cannot change under a message, and order is kept."""

    def __init__(self, access: Authorizer, limits: Limits) -> None:
        # aMQTT's default listener is 0.0.0.0:1883; without an address it opens none, and EmbeddedBroker opens its own.
        super().__init__(BrokerConfig(listeners={"default": ListenerConfig(bind=None)}, plugins={}))
        self.filters = Subscriptions(limits)
        self.kept = QueuedBytes()
        self._retained_bytes = 0
        self.access = access
        self.limits = limits
        self.journal: Journal | None = None
        """The changes to store; None without a store."""
        self._waiting: set[Any] = set()

    def route(self, topic: str, data: bytes, qos: int) -> None:
        """Deliver to every subscriber of the topic, once, at the lower QoS of both."""
        for client_id, granted in self.filters.matching(topic).items():
            session, connection = self._sessions[client_id]
            try:
                self._deliver(session, connection, topic, data, min(qos, granted))
            except Exception:
                log.exception("delivery_failed client_id=%s", client_id)
                connection.close("a message could not be delivered")
        if self.kept.total > self.limits.max_kept_bytes:
            self.make_room()

    def make_room(self) -> None:
        """Too much is queued for absent clients."""

    def changes(self) -> int:
        """The number of changes that a store must write."""
        return self.journal.changes if self.journal is not None else 0

    def call_when_saved(self, connection: Any) -> None:
        """Call its `saved` each time that changes were saved, until it returns that it waits for none."""
        self._waiting.add(connection)

    def answer_saved(self) -> None:
        """Changes were saved: send the answers that waited for them."""
        if self.journal is not None:
            self._waiting = {each for each in tuple(self._waiting) if each.saved(self.journal.saved)}

    def client_publishes(self, session: Session, packet: Publish) -> None:
        """Route a PUBLISH; one without the right is dropped."""
        self.publish_for(session, packet.topic, packet.data, packet.qos, retain=packet.retain)

    def publish_for(self, session: Session, topic: str, data: bytes, qos: int, *, retain: bool) -> None:
        """Publish for a client, also its last will."""
        allowed = valid_topic(topic) and self.access.may_publish(session.client_id, session.username, topic)
        if not allowed:
            DROPPED["not_allowed"] += 1
            log.warning("publish_refused client_id=%s topic=%.99r", session.client_id, topic)
            return
        MESSAGES["received"] += 1
        if retain:
            self._retain(topic, data, qos)
        self.route(topic, data, qos)

    def client_subscribes(self, session: Session, filters: list[tuple[str, int]]) -> list[int]:
        """Subscribe, and return the codes of SUBACK."""
        codes = [self._subscribe(session, topic_filter, qos) for topic_filter, qos in filters]
        if refused := [name for (name, _), code in zip(filters, codes, strict=True) if code == REFUSED]:
            log.warning(
                "subscribe_refused client_id=%s filter=%.99r count=%d", session.client_id, refused[0], len(refused)
            )
        return codes

    def client_unsubscribes(self, session: Session, filters: list[str]) -> None:
        """Remove filters."""
        notes = self._sessions[session.client_id][1].notes
        for topic_filter in filters:
            if self.filters.remove(session.client_id, topic_filter) and notes is not None:
                notes.unsubscribe(topic_filter)

    def replay_retained(self, session: Session, granted: list[tuple[str, int]]) -> int:
        """Send the retained messages under newly granted filters, each topic once; returns the work done."""
        connection = self._sessions[session.client_id][1]
        wanted: dict[str, int] = {}
        for topic_filter, qos in granted:
            for topic in self._retained_under(topic_filter):
                wanted[topic] = max(qos, wanted.get(topic, 0))
        for topic, qos in wanted.items():
            retained = self._retained_messages[topic]
            connection.publish(topic, retained.data, min(retained.qos, qos), retain=True)
        wild = sum(has_wildcard(topic_filter) for topic_filter, _ in granted)
        return len(wanted) + wild * len(self._retained_messages) // MATCHES_PER_MESSAGE

    def _retained_under(self, topic_filter: str) -> list[str]:
        """By dictionary if there is no wildcard: a reconnecting fleet subscribes to its own topics."""
        if not has_wildcard(topic_filter):
            return [topic_filter] if topic_filter in self._retained_messages else []
        return [topic for topic in self._retained_messages if matches(topic_filter, topic)]

    def _subscribe(self, session: Session, topic_filter: str, qos: int) -> int:
        allowed = valid_filter(topic_filter) and self.access.may_subscribe(
            session.client_id, session.username, topic_filter
        )
        if not allowed or not self.filters.add(session.client_id, topic_filter, qos):
            return REFUSED
        notes = self._sessions[session.client_id][1].notes
        if notes is not None:
            notes.subscribe(topic_filter, qos)
        return qos

    def _deliver(self, session: Session, connection: Any, topic: str, data: bytes, qos: int) -> None:
        if connection.publish(topic, data, qos) or session.clean or not qos:
            return
        waiting, notes = session.queue, connection.notes
        message = Message(None, topic, qos, data, retain=False)
        dropped = waiting.keep(message, max_count=self.limits.max_offline, max_cost=self.limits.max_offline_bytes)
        DROPPED["queue_full"] += len(dropped)
        if notes is None:
            return
        for each in dropped:
            notes.drop(each)
        if message not in dropped:
            notes.keep(message)

    def _retain(self, topic: str, data: bytes, qos: int) -> None:
        held = self._retained_messages.pop(topic, None)
        if held is not None:
            self._retained_bytes -= len(topic) + len(held.data)
        fits = (
            len(self._retained_messages) < self.limits.max_retained
            and self._retained_bytes + len(topic) + len(data) <= self.limits.max_retained_bytes
        )
        if data and not fits:
            DROPPED["not_retained"] += 1
            log.warning(
                "not_retained topic=%.99r retained=%d bytes=%d",
                topic,
                len(self._retained_messages),
                self._retained_bytes,
            )
        if data and fits:
            self.take_up_retained(topic, data, qos)
        if self.journal is not None and ((data and fits) or held is not None):
            self.journal.retain(topic, (data, qos) if data and fits else None)

    def take_up_retained(self, topic: str, data: bytes, qos: int) -> None:
        """Set the retained message of a topic that has none."""
        self._retained_messages[topic] = Retained(data, qos)
        self._retained_bytes += len(topic) + len(data)

    async def _broadcast_message(
        self, _session: Session | None, topic: str, data: bytes, force_qos: int | None = None
    ) -> None:
        """Messages of aMQTT's own parts are routed the same way."""
        self.route(topic, bytes(data), MAX_QOS if force_qos is None else force_qos)

    async def _broadcast_loop(self) -> None:
        """Does nothing: `route` has no queue. aMQTT starts this and waits for its end."""
        await self._broadcast_shutdown_waiter

    async def _del_all_subscriptions(self, session: Session) -> None:
        self.filters.drop(session.client_id)
