"""One client's connection: packets are handled where they are read, and no write waits."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import Any

from amqtt.adapters import StreamWriterAdapter
from amqtt.mqtt.packet import DISCONNECT, PINGREQ, PUBACK, PUBCOMP, PUBLISH, PUBREC, PUBREL, SUBSCRIBE, UNSUBSCRIBE
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.mqtt.puback import PubackPacket
from amqtt.mqtt.pubcomp import PubcompPacket
from amqtt.mqtt.pubrec import PubrecPacket
from amqtt.mqtt.pubrel import PubrelPacket
from amqtt.mqtt.suback import SubackPacket
from amqtt.mqtt.unsuback import UnsubackPacket
from amqtt.session import Session

from broker.server.closing import abort_transport
from broker.server.codec import Framer, decode
from broker.server.connect_packet import judge_version
from broker.server.journal import Message, Notes
from broker.server.keepalive import KeepAlive
from broker.server.limits import Limits
from broker.server.metrics import DROPPED, MESSAGES
from broker.server.offline_queue import cost
from broker.server.rate_limit import RateLimit
from broker.server.routing import Routing
from contract.errors import MessageError

log = logging.getLogger(__name__)

CHUNK_BYTES = 16_384
_PACED = (PUBLISH, SUBSCRIBE, UNSUBSCRIBE)


async def packets(reader: asyncio.StreamReader, limits: Limits) -> AsyncGenerator[bytes, None]:
    """Whole packets until the client's end of file; raises MessageError if the stream cannot be MQTT 3.1.1.

    Raises VersionError once the protocol's name and level have come, however much of CONNECT is missing.
    """
    framer = Framer(limits.max_packet_bytes)
    settled = False
    while data := await reader.read(CHUNK_BYTES):
        framer.feed(data)
        settled = settled or judge_version(framer.start)
        while (packet := framer.next_packet()) is not None:
            yield packet
        if len(data) == CHUNK_BYTES:
            # Reading from a full buffer does not wait: here other clients get their turn.
            await asyncio.sleep(0)


class Connection(BrokerProtocolHandler):  # type: ignore[misc]  # aMQTT has no type information
    """A connected client, open from `open` to `close`; `ended` is set once its last will has been handled."""

    def open(self, session: Session, writer: asyncio.StreamWriter, router: Routing, limits: Limits) -> None:
        """Start to send for a session; call it once."""
        self.attach(session, None, StreamWriterAdapter(writer))
        self.ended = asyncio.Event()
        self.credential: str | None = None
        self.notes: Notes | None = None
        self.dropped = 0
        self._unacked_bytes = 0
        self._changes = 0
        self._held: deque[tuple[int, Callable[[], None]]] = deque()
        self._transport: asyncio.WriteTransport = writer.transport
        self._router = router
        self._limits = limits
        self._keepalive = KeepAlive(session.keep_alive, self._loop.time())
        self._rate_limit = RateLimit(limits.max_publish_per_s, self._loop.time())
        self._timer: asyncio.TimerHandle | None = None
        self._handlers = {
            PUBLISH: self.handle_publish,
            PUBACK: self.handle_puback,
            PUBREC: self.handle_pubrec,
            PUBREL: self.handle_pubrel,
            PUBCOMP: self.handle_pubcomp,
            SUBSCRIBE: self.handle_subscribe,
            UNSUBSCRIBE: self.handle_unsubscribe,
            PINGREQ: self.handle_pingreq,
        }

    async def run(self, stream: AsyncGenerator[bytes, None]) -> bool:
        """Serve the client to its end; True if it sent DISCONNECT. Raises MessageError at its first invalid packet."""
        self._watch()
        try:
            async for data in stream:
                self._keepalive.heard(self._loop.time())
                packet = await decode(data)
                kind = packet.fixed_header.packet_type
                if kind == DISCONNECT:
                    return True
                if kind not in self._handlers:
                    raise MessageError("a second CONNECT")
                self._changes = self._router.changes()
                await self._handlers[kind](packet)
                if kind in _PACED:
                    work = 1 if kind == PUBLISH else len(packet.payload.topics)
                    if wait_s := self._rate_limit.spend(self._loop.time(), work):
                        await asyncio.sleep(wait_s)
        finally:
            if self._timer is not None:
                self._timer.cancel()
        return False

    def close(self, reason: str) -> None:
        """Cut the connection at once; unsent bytes are lost."""
        if self.is_open:
            log.warning("connection_closed client_id=%s reason=%s", self.session.client_id, reason)
            abort_transport(self._transport)

    @property
    def is_open(self) -> bool:
        """Whether a message published now can still reach the client."""
        return not self._transport.is_closing()

    def saved(self, upto: int) -> bool:
        """Send the answers that waited for changes up to this one; True if others still wait."""
        while self._held and self._held[0][0] <= upto:
            self._held.popleft()[1]()
        return bool(self._held)

    def publish(self, topic: str, data: bytes, qos: int, *, retain: bool = False, number: int | None = None) -> bool:
        """Send a message without waiting; False if the client was or is now cut off, and did not get it.

        Args:
        topic: of the message.
        data: its payload.
        qos: for this client.
        retain: whether it is sent because it was retained.
        number: its number in the store, if it waited there.
        """
        if not self.is_open:
            return False
        crowded = self._unsent_bytes() > self._limits.max_unsent_bytes
        if crowded and not qos:
            self.dropped += 1
            DROPPED["slow"] += 1
            return True
        message = Message(None, topic, qos, data, retain)
        unacked = len(self.session.inflight_out) >= self._limits.max_unacked
        if crowded or (qos and (unacked or self._unacked_bytes + cost(message) > self._limits.max_unacked_bytes)):
            self.close("reads or acknowledges too slowly")
            return False
        if qos:
            packet_id = message.packet_id = self.session.next_packet_id
            message.number = number
            self._unacked_bytes += cost(message)
            self.session.inflight_out[packet_id] = message
            if self.notes is not None:
                self.notes.keep(message)
        self._write(message.build_publish_packet())
        MESSAGES["sent"] += 1
        return True

    def resume(self) -> None:
        """Send what an earlier connection of this session left unacknowledged, then what was queued meanwhile."""
        self._unacked_bytes = sum(cost(message) for message in self.session.inflight_out.values())
        for message in list(self.session.inflight_out.values()):
            released = message.pubrec_packet is not None
            self._write(PubrelPacket.build(message.packet_id) if released else message.build_publish_packet(dup=True))
        queue = self.session.retained_messages
        for waiting in [queue.get_nowait() for _ in range(queue.qsize())]:
            if not self.publish(waiting.topic, waiting.data, waiting.qos, number=waiting.number):
                queue.put_nowait(waiting)

    async def handle_publish(self, packet: Any) -> None:
        """Route, then acknowledge; QoS 2 is routed when its id comes first."""
        if packet.qos < 2:  # noqa: PLR2004  # QoS 2
            self._router.client_publishes(self.session, packet)
            if packet.qos:
                self._answer(PubackPacket.build(packet.packet_id))
            return
        if packet.packet_id not in self.session.inflight_in:
            if len(self.session.inflight_in) >= self._limits.max_unacked:
                raise MessageError("too many QoS 2 messages without PUBREL")
            self.session.inflight_in[packet.packet_id] = None
            if self.notes is not None:
                self.notes.received(packet.packet_id)
            self._router.client_publishes(self.session, packet)
        self._answer(PubrecPacket.build(packet.packet_id))

    async def handle_pubrel(self, packet: Any) -> None:
        """The id of a QoS 2 message may be used again."""
        if packet.packet_id in self.session.inflight_in:
            del self.session.inflight_in[packet.packet_id]
            if self.notes is not None:
                self.notes.completed(packet.packet_id)
        self._answer(PubcompPacket.build(packet.packet_id))

    async def handle_puback(self, packet: Any) -> None:
        """The client has acknowledged a QoS 1 message."""
        self._done(self._expected(packet, qos=1))

    async def handle_pubrec(self, packet: Any) -> None:
        """The client has received a QoS 2 message."""
        message = self.session.inflight_out.get(self._expected(packet, qos=2))
        if message is not None:
            message.pubrec_packet = packet
            if self.notes is not None:
                self.notes.keep(message, released=True)
        self._answer(PubrelPacket.build(packet.packet_id))

    async def handle_pubcomp(self, packet: Any) -> None:
        """The id of a QoS 2 message is free again."""
        packet_id = self._expected(packet, qos=2)
        message = self.session.inflight_out.get(packet_id)
        if message is not None and message.pubrec_packet is None:
            raise MessageError("PUBCOMP before PUBREC")
        self._done(packet_id)

    async def handle_subscribe(self, packet: Any) -> None:
        """SUBACK first, then the retained messages for the filters of this packet, and of no other."""
        filters = packet.payload.topics
        codes = self._router.client_subscribes(self.session, filters)
        granted = [(name, code) for (name, _), code in zip(filters, codes, strict=True) if code < 0x80]  # noqa: PLR2004

        def answer() -> None:
            self._write(SubackPacket.build(packet.variable_header.packet_id, codes))
            if self.is_open:
                self._rate_limit.spend(self._loop.time(), self._router.replay_retained(self.session, granted))

        self._when_saved(answer)

    async def handle_unsubscribe(self, packet: Any) -> None:
        """No message is sent under these filters after UNSUBACK."""
        self._router.client_unsubscribes(self.session, packet.payload.topics)
        self._answer(UnsubackPacket.build(packet.variable_header.packet_id))

    def _answer(self, packet: Any) -> None:
        self._when_saved(lambda: self._write(packet))

    def _when_saved(self, action: Callable[[], None]) -> None:
        """Act when the changes of this packet are saved: at once if there are none, and in the order of the packets."""
        changes = self._router.changes()
        if changes != self._changes or self._held:
            self._held.append((changes if changes != self._changes else 0, action))
            self._router.call_when_saved(self)
        else:
            action()

    def _expected(self, packet: Any, qos: int) -> int:
        """The id in an acknowledgement; raises MessageError if that message was sent with another QoS."""
        packet_id: int = packet.variable_header.packet_id
        message = self.session.inflight_out.get(packet_id)
        if message is not None and message.qos != qos:
            raise MessageError(f"packet type {packet.fixed_header.packet_type} for a message of QoS {message.qos}")
        return packet_id

    def _done(self, packet_id: int) -> None:
        message = self.session.inflight_out.pop(packet_id, None)
        if message is None:
            return
        self._unacked_bytes -= cost(message)
        if self.notes is not None:
            self.notes.drop(message)

    async def start(self) -> None:
        """Does nothing: aMQTT would start a reading task here; `run` reads."""

    async def stop(self) -> None:
        """AMQTT calls it at shutdown for remaining clients."""
        abort_transport(self._transport)

    async def _send_packet(self, packet: Any) -> None:
        self._write(packet)

    def _write(self, packet: Any) -> None:
        if self.is_open:
            self._transport.write(packet.to_bytes())
            if self._unsent_bytes() > 2 * self._limits.max_unsent_bytes:
                self.close("reads no answers")

    def _unsent_bytes(self) -> int:
        return self._transport.get_write_buffer_size()

    def _watch(self) -> None:
        left_s = self._keepalive.left_s(self._loop.time())
        if left_s is None:
            return
        if left_s <= 0:
            self.close("silent for 1.5 x its keep-alive")
        else:
            self._timer = self._loop.call_later(left_s, self._watch)
