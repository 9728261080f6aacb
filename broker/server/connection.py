"""One client's connection: packets are handled where they are read, and no write waits."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable

from amqtt.mqtt import packet as codes
from amqtt.mqtt.packet import DISCONNECT, PUBACK, PUBCOMP, PUBREC, PUBREL, UNSUBACK

from broker.server.closing import abort_transport
from broker.server.codec import (
    PINGRESP,
    Answer,
    Framer,
    Packet,
    Publish,
    Subscribe,
    Unsubscribe,
    decode,
    encode_answer,
    encode_publish,
    encode_suback,
)
from broker.server.connect_packet import judge_version
from broker.server.ending import Ending
from broker.server.journal import Message, Notes
from broker.server.keepalive import KeepAlive
from broker.server.limits import Limits
from broker.server.metrics import DROPPED, MESSAGES
from broker.server.offline_queue import cost
from broker.server.rate_limit import RateLimit
from broker.server.routing import Routing
from broker.server.session import Session
from contract.errors import MessageError

log = logging.getLogger(__name__)

CHUNK_BYTES = 16_384


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


class Connection:
    """A connected client; `ended` is set once its last will has been handled."""

    __slots__ = (
        "_changes",
        "_held",
        "_keepalive",
        "_limits",
        "_loop",
        "_rate_limit",
        "_router",
        "_timer",
        "_transport",
        "_unacked_bytes",
        "credential",
        "dropped",
        "ended",
        "notes",
        "session",
    )

    def __init__(self, session: Session, transport: asyncio.WriteTransport, router: Routing, limits: Limits) -> None:
        self.session = session
        self.ended = Ending()
        self.credential: str | None = None
        self.notes: Notes | None = None
        self.dropped = 0
        self._loop = asyncio.get_running_loop()
        self._unacked_bytes = 0
        self._changes = 0
        self._held: deque[tuple[int, Callable[[], None]]] | None = None
        self._transport = transport
        self._router = router
        self._limits = limits
        self._keepalive = KeepAlive(session.keep_alive_s, self._loop.time())
        self._rate_limit = RateLimit(limits.max_publish_per_s, self._loop.time())
        self._timer: asyncio.TimerHandle | None = None

    async def run(self, stream: AsyncGenerator[bytes, None]) -> bool:
        """Serve the client to its end; True if it sent DISCONNECT. Raises MessageError at its first invalid packet."""
        self._watch()
        try:
            async for data in stream:
                now = self._loop.time()
                self._keepalive.heard(now)
                packet = decode(data)
                if packet.kind == DISCONNECT:
                    return True
                self._changes = self._router.changes()
                if (work := self.handle(packet)) and (wait_s := self._rate_limit.spend(now, work)):
                    await asyncio.sleep(wait_s)
        finally:
            if self._timer is not None:
                self._timer.cancel()
        return False

    def handle(self, packet: Packet) -> int:
        """Carry out a packet; returns how many messages' work it was. Raises MessageError if it may not come now."""
        match packet:
            case Publish():
                self._handle_publish(packet)
                return 1
            case Answer(kind=codes.PUBREL):
                self._handle_pubrel(packet.packet_id)
            case Answer():
                self._handle_answer(packet)
            case Subscribe():
                self._handle_subscribe(packet)
                return len(packet.filters)
            case Unsubscribe():
                self._router.client_unsubscribes(self.session, packet.filters)
                # No message is sent under these filters after UNSUBACK.
                self._answer(encode_answer(UNSUBACK, packet.packet_id))
                return len(packet.filters)
            case _:
                self._write(PINGRESP)
        return 0

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
        if self._held:
            return True
        self._held = None
        return False

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
        packet_id = None
        if qos:
            message = Message(None, topic, qos, data, retain, number=number)
            held = self._unacked_bytes + cost(message)
            unacked = len(self.session.inflight_out) >= self._limits.max_unacked
            if crowded or unacked or held > self._limits.max_unacked_bytes:
                self.close("reads or acknowledges too slowly")
                return False
            packet_id = message.packet_id = self.session.next_packet_id()
            self._unacked_bytes = held
            self.session.inflight_out[packet_id] = message
            if self.notes is not None:
                self.notes.keep(message)
        self._transport.write(encode_publish(topic, data, qos, packet_id=packet_id, retain=retain))
        MESSAGES["sent"] += 1
        return True

    def resume(self) -> None:
        """Send what an earlier connection of this session left unacknowledged, then what was queued meanwhile."""
        self._unacked_bytes = sum(cost(message) for message in self.session.inflight_out.values())
        for packet_id, message in list(self.session.inflight_out.items()):
            self._write(encode_answer(PUBREL, packet_id) if message.released else _again(packet_id, message))
        queue = self.session.queue
        for waiting in [queue.take() for _ in range(len(queue))]:
            if not self.publish(waiting.topic, waiting.data, waiting.qos, number=waiting.number):
                queue.put(waiting)

    def _handle_publish(self, packet: Publish) -> None:
        """Route, then acknowledge; QoS 2 is routed when its id comes first."""
        if packet.qos < 2:  # noqa: PLR2004  # QoS 2
            self._router.client_publishes(self.session, packet)
            if packet.qos:
                self._answer(encode_answer(PUBACK, packet.packet_id))
            return
        if packet.packet_id not in self.session.inflight_in:
            if len(self.session.inflight_in) >= self._limits.max_unacked:
                raise MessageError("too many QoS 2 messages without PUBREL")
            self.session.inflight_in.add(packet.packet_id)
            if self.notes is not None:
                self.notes.received(packet.packet_id)
            self._router.client_publishes(self.session, packet)
        self._answer(encode_answer(PUBREC, packet.packet_id))

    def _handle_pubrel(self, packet_id: int) -> None:
        """The id of a QoS 2 message may be used again."""
        if packet_id in self.session.inflight_in:
            self.session.inflight_in.discard(packet_id)
            if self.notes is not None:
                self.notes.completed(packet_id)
        self._answer(encode_answer(PUBCOMP, packet_id))

    def _handle_answer(self, packet: Answer) -> None:
        packet_id = packet.packet_id
        message = self.session.inflight_out.get(packet_id)
        if message is not None and message.qos != (1 if packet.kind == PUBACK else 2):
            raise MessageError(f"packet type {packet.kind} for a message of QoS {message.qos}")
        if packet.kind == PUBREC:
            if message is not None:
                message.released = True
                if self.notes is not None:
                    self.notes.keep(message, released=True)
            self._answer(encode_answer(PUBREL, packet_id))
            return
        if message is None:
            return
        if packet.kind == PUBCOMP and not message.released:
            raise MessageError("PUBCOMP before PUBREC")
        del self.session.inflight_out[packet_id]
        self._unacked_bytes -= cost(message)
        if self.notes is not None:
            self.notes.drop(message)

    def _handle_subscribe(self, packet: Subscribe) -> None:
        """SUBACK first, then the retained messages for the filters of this packet, and of no other."""
        codes = self._router.client_subscribes(self.session, packet.filters)
        granted = [(name, code) for (name, _), code in zip(packet.filters, codes, strict=True) if code < 0x80]  # noqa: PLR2004

        def answer() -> None:
            self._write(encode_suback(packet.packet_id, codes))
            if self.is_open:
                self._rate_limit.spend(self._loop.time(), self._router.replay_retained(self.session, granted))

        self._when_saved(answer)

    def _answer(self, packet: bytes) -> None:
        if self._held is None and self._router.changes() == self._changes:
            self._write(packet)
        else:
            self._when_saved(lambda: self._write(packet))

    def _when_saved(self, action: Callable[[], None]) -> None:
        """Act when the changes of this packet are saved: at once if there are none, and in the order of the packets."""
        changes = self._router.changes()
        if changes != self._changes or self._held:
            if self._held is None:
                self._held = deque()
            self._held.append((changes if changes != self._changes else 0, action))
            self._router.call_when_saved(self)
        else:
            action()

    async def stop(self) -> None:
        """AMQTT calls it at shutdown for remaining clients."""
        abort_transport(self._transport)

    def _write(self, packet: bytes) -> None:
        if self.is_open:
            self._transport.write(packet)
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


def _again(packet_id: int, message: Message) -> bytes:
    return encode_publish(
        message.topic, message.data, message.qos, packet_id=packet_id, retain=message.retain, again=True
    )
