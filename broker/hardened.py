"""From accept to the last will: who holds a client id, and for how long."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from amqtt.adapters import BufferReader, StreamWriterAdapter
from amqtt.errors import AMQTTError, MQTTError, NoDataError
from amqtt.mqtt.packet import CONNECT
from amqtt.session import Session

from broker.access import Access
from broker.connection import Connection, packets
from broker.fanout import FanOut
from broker.framing import MAX_QOS, split
from broker.limits import Limits
from contract.errors import MessageError

log = logging.getLogger(__name__)

EXPIRY_SWEEP_S = 60.0


class HardenedBroker(FanOut):
    """One connection per client id; every socket it is given it also closes."""

    def __init__(self, access: Access, limits: Limits) -> None:
        super().__init__(access, limits)
        self._served: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}
        self._stopping = False

    async def serve_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve an accepted socket to its end; what a client does wrong ends here, in one line of log."""
        task = asyncio.current_task()
        peer = writer.get_extra_info("peername")
        if task is None or peer is None:  # it was gone before it was served
            _abort(writer)
            return
        self._served[task] = writer
        try:
            async with aclosing(packets(reader, self.limits)) as stream:
                await self._serve(stream, writer)
        except MessageError as error:
            log.warning("client_rejected peer=%s reason=%r", peer, error.reason)
        except OSError as error:
            log.info("connection_lost peer=%s reason=%r", peer, error)
        finally:
            await self._hang_up(writer)
            del self._served[task]

    async def shutdown(self) -> None:
        """End every connection, then what aMQTT itself runs; publishes no wills."""
        self._stopping = True
        await asyncio.sleep(0)  # a socket accepted just now gets its task
        for end in (asyncio.StreamWriter.close, _abort):
            for writer in self._served.values():
                end(writer)
            if self._served:
                await asyncio.wait(self._served, timeout=self.limits.close_timeout_s)
        await super().shutdown()

    def forget_expired(self, now: float) -> None:
        """Delete the persistent sessions that have been absent too long."""
        for client_id, (_, connection) in list(self._sessions.items()):
            if connection.ended_at is not None and now - connection.ended_at > self.limits.session_expiry_s:
                self._forget(client_id)

    async def _serve(self, stream: AsyncGenerator[bytes, None], writer: asyncio.StreamWriter) -> None:
        connection, session = await self._handshake(stream, writer)
        connection.open(session, writer, self, self.limits)
        if not await self.access.may_connect(session.client_id, session.username, session.password):
            await connection.mqtt_connack_authorize(authorize=False)
            raise MessageError(f"{session.client_id!r} may not connect")
        await self._claim(connection, session)
        goodbye = False
        try:
            await connection.mqtt_connack_authorize(authorize=True)
            connection.resume()
            goodbye = await connection.run(stream)
        finally:
            self._leave(connection, session, goodbye=goodbye or self._stopping)

    async def _handshake(
        self, stream: AsyncGenerator[bytes, None], writer: asyncio.StreamWriter
    ) -> tuple[Any, Session]:
        """A connection and a session out of the first packet, which aMQTT reads and checks."""
        try:
            async with asyncio.timeout(self.limits.connect_timeout_s):
                first = await anext(stream, b"")
                if not first:
                    raise ConnectionError("closed before CONNECT")
                header, _ = split(first)
                if header.packet_type != CONNECT:
                    raise MessageError(f"packet type {header.packet_type} before CONNECT")
                connection, session = await Connection.init_from_connect(
                    BufferReader(first), StreamWriterAdapter(writer), self.plugins_manager
                )
        except TimeoutError:
            raise MessageError(f"no CONNECT within {self.limits.connect_timeout_s:g} s") from None
        except (AMQTTError, MQTTError, NoDataError, ValueError) as error:
            raise MessageError(f"CONNECT refused: {error}") from error
        if session.will_flag and session.will_qos > MAX_QOS:
            raise MessageError("a last will with QoS 3")
        return connection, session

    async def _claim(self, connection: Any, session: Session) -> None:
        """Take over the client id; the older connection has ended, its last will included, when this returns."""
        client_id = session.client_id
        while (held := self._sessions.get(client_id)) is not None and not held[1].ended.is_set():
            held[1].close("its client id has connected again")
            await held[1].ended.wait()
        if held is not None and not session.clean_session:
            session.inflight_out, session.inflight_in = held[0].inflight_out, held[0].inflight_in
            session.retained_messages = held[0].retained_messages
            session.parent = 1
        elif held is not None:
            self.filters.drop(client_id)
        self._sessions[client_id] = (session, connection)

    def _leave(self, connection: Any, session: Session, *, goodbye: bool) -> None:
        """Publish the last will of a client that did not say DISCONNECT, and keep or forget its session."""
        connection.ended_at = self._loop.time()
        if connection.dropped:
            log.warning("qos_0_dropped client_id=%s count=%d", session.client_id, connection.dropped)
        try:
            if session.clean_session:
                self._forget(session.client_id)
            if session.will_flag and not goodbye:
                self.publish_for(
                    session,
                    session.will_topic,
                    bytes(session.will_message),
                    session.will_qos,
                    retain=session.will_retain,
                )
        finally:
            connection.ended.set()

    def _forget(self, client_id: str) -> None:
        self.filters.drop(client_id)
        self._sessions.pop(client_id, None)

    async def _hang_up(self, writer: asyncio.StreamWriter) -> None:
        """Close a socket, its last bytes sent if the client takes them soon."""
        try:
            writer.close()
            async with asyncio.timeout(self.limits.close_timeout_s):
                await writer.wait_closed()
        except OSError as error:
            log.debug("hang_up reason=%r", error)
        finally:
            _abort(writer)

    async def _session_monitor(self) -> None:
        while True:
            await asyncio.sleep(EXPIRY_SWEEP_S)
            self.forget_expired(self._loop.time())


def _abort(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
