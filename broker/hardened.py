"""From accept to the last will: who holds a client id, and for how long."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack, aclosing
from pathlib import Path
from typing import Any

from amqtt.adapters import BufferReader, StreamWriterAdapter
from amqtt.errors import AMQTTError, MQTTError, NoDataError
from amqtt.mqtt.packet import CONNECT
from amqtt.session import Session

from broker import greeting
from broker.absent import Absent
from broker.access import Access
from broker.backlog import Backlog, cost
from broker.connection import Connection, packets
from broker.doors import Doors
from broker.fanout import FanOut
from broker.framing import split
from broker.journal import Journal, Notes
from broker.limits import Limits
from broker.saver import Saver
from broker.sockets import abort, hang_up, say_last
from broker.store import Store, StoredSession
from broker.tls import ServerTls
from contract.errors import MessageError

log = logging.getLogger(__name__)

EXPIRY_SWEEP_S = 60.0
NOT_SPOKEN = b"\x20\x02\0\1"
"""CONNACK: this version is not spoken."""


class HardenedBroker(FanOut):
    """One connection per client id; every socket it is given it also closes."""

    def __init__(self, access: Access, limits: Limits, tls: ServerTls | None = None, store: Path | None = None) -> None:
        super().__init__(access, limits)
        self._tls = tls
        self._store = store
        self._saver: Saver | None = None
        self._doors = Doors(limits.max_connections, limits.max_unnamed_per_address)
        self._served: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}
        self._stopping = False
        self._absent: dict[str, None] = {}
        """Persistent sessions without a connection, the one that is absent longest first."""

    async def start(self) -> None:
        """Take up what the store knows, then what aMQTT itself runs; raises StartError."""
        await super().start()
        if self._store is None:
            return
        try:
            store, stored = Store.open(self._store)
        except BaseException:
            await super().shutdown()
            raise
        self.journal = Journal(stored.last_session, stored.last_message)
        for topic, data, qos in stored.retained:
            self.take_up_retained(topic, data, qos)
        for each in stored.sessions:
            self._restore(each, self.journal)
        self._saver = Saver(store, self.journal, self.answer_saved)
        self._saver.start()

    async def serve_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve an accepted socket to its end; what a client does wrong ends here, in one line of log."""
        task = asyncio.current_task()
        peer = writer.get_extra_info("peername")
        if task is None or peer is None:  # it was gone before it was served
            abort(writer)
            return
        if not self._doors.enter(peer[0]):
            self._report_refused()
            abort(writer)
            return
        self._served[task] = writer
        unnamed = ExitStack()
        unnamed.callback(self._doors.named, peer[0])
        try:
            with unnamed:
                identity = await self._tls.handshake(writer, self.limits.connect_timeout_s) if self._tls else None
                try:
                    async with aclosing(packets(reader, self.limits)) as stream:
                        await self._serve(stream, writer, identity, unnamed.close)
                except greeting.VersionError:
                    await say_last(reader, writer, NOT_SPOKEN, self.limits.close_timeout_s)
                    raise
        except MessageError as error:
            log.warning("client_rejected peer=%s reason=%r", peer, error.reason)
        except OSError as error:
            log.info("connection_lost peer=%s reason=%r", peer, error)
        finally:
            await hang_up(writer, self.limits.close_timeout_s)
            del self._served[task]
            self._doors.leave()

    async def shutdown(self) -> None:
        """End every connection, then what aMQTT itself runs; publishes no wills."""
        self._stopping = True
        await asyncio.sleep(0)  # a socket accepted just now gets its task
        for end in (asyncio.StreamWriter.close, abort):
            for writer in self._served.values():
                end(writer)
            if self._served:
                await asyncio.wait(self._served, timeout=self.limits.close_timeout_s)
        saver, self._saver = self._saver, None
        if saver is not None:
            await saver.stop()
        await super().shutdown()

    def forget_expired(self, now: float) -> None:
        """Delete the persistent sessions that have been absent too long."""
        for client_id, (_, connection) in list(self._sessions.items()):
            if connection.ended.is_set() and now - connection.ended_at > self.limits.session_expiry_s:
                self._forget(client_id)

    def close_unwelcome(self) -> None:
        """End the connections and sessions of users who were removed or have another password by now."""
        for client_id, (session, connection) in list(self._sessions.items()):
            if connection.credential == self.access.credential(session.username):
                continue
            if connection.ended.is_set():
                self._forget(client_id)
            else:
                connection.close("its user was removed or changed")

    async def _serve(
        self,
        stream: AsyncGenerator[bytes, None],
        writer: asyncio.StreamWriter,
        identity: str | None,
        let_in: Callable[[], None],
    ) -> None:
        connection, session = await self._handshake(stream, writer)
        connection.open(session, writer, self, self.limits)
        if not await self._admit(connection, session, identity):
            await connection.mqtt_connack_authorize(authorize=False)
            raise MessageError(f"user {session.username!r} may not connect as {session.client_id!r}")
        let_in()
        await self._claim(connection, session)
        goodbye = False
        try:
            await connection.mqtt_connack_authorize(authorize=True)
            connection.resume()
            goodbye = await connection.run(stream)
        finally:
            self._leave(connection, session, goodbye=goodbye or self._stopping)

    async def _admit(self, connection: Any, session: Session, identity: str | None) -> bool:
        """Whether a client may come in; the name in its certificate counts, not the one it says."""
        if identity is not None:
            session.username = identity
        # Before the decision: a change that comes in between is noticed.
        connection.credential = self.access.credential(session.username)
        if identity is not None:
            return self.access.may_connect_certified(session.client_id, identity)
        if self._tls is not None and self._tls.asks_for_certificates:
            return False
        return await self.access.may_connect(session.client_id, session.username, session.password)

    async def _handshake(
        self, stream: AsyncGenerator[bytes, None], writer: asyncio.StreamWriter
    ) -> tuple[Any, Session]:
        """A connection and a session out of the first packet, which aMQTT reads and checks."""
        try:
            async with asyncio.timeout(self.limits.connect_timeout_s):
                first = await anext(stream, b"")
                if not first:
                    raise ConnectionError("closed before CONNECT")
                header, body = split(first)
                if header.packet_type != CONNECT:
                    raise MessageError(f"packet type {header.packet_type} before CONNECT")
                greeting.check(body)
                connection, session = await Connection.init_from_connect(
                    BufferReader(first), StreamWriterAdapter(writer), self.plugins_manager
                )
        except TimeoutError:
            raise MessageError(f"no CONNECT within {self.limits.connect_timeout_s:g} s") from None
        except (AMQTTError, MQTTError, NoDataError, ValueError) as error:
            raise MessageError(f"CONNECT refused: {error}") from error
        session.retained_messages = Backlog(self.kept)
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
            connection.notes = held[1].notes
            self._return(client_id, held[1])
        elif held is not None:
            self._forget(client_id)
        if self.journal is not None and not session.clean_session:
            connection.notes = connection.notes or self.journal.session()
            connection.notes.owner(client_id, session.username, connection.credential)
        self._sessions[client_id] = (session, connection)

    def _leave(self, connection: Any, session: Session, *, goodbye: bool) -> None:
        """Publish the last will of a client that did not say DISCONNECT, and keep or forget its session."""
        if connection.dropped:
            log.warning("qos_0_dropped client_id=%s count=%d", session.client_id, connection.dropped)
        try:
            if session.clean_session:
                self._forget(session.client_id)
            else:
                self._set_absent(session, connection.credential, connection.notes)
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

    def _set_absent(self, session: Session, credential: str | None, notes: Notes | None) -> None:
        absent = Absent(self._loop.time(), credential, notes)
        absent.unacked_bytes = sum(cost(message) for message in session.inflight_out.values())
        self.kept.total += absent.unacked_bytes
        self._sessions[session.client_id] = (session, absent)
        self._absent[session.client_id] = None
        if len(self._absent) > self.limits.max_sessions:
            self._forget(next(iter(self._absent)))

    def make_room(self) -> None:
        """Forget those who are absent longest until what is kept for the others is not too much."""
        while self.kept.total > self.limits.max_kept_bytes and self._absent:
            log.warning(
                "session_forgotten client_id=%s reason='too much is kept'", client_id := next(iter(self._absent))
            )
            self._forget(client_id)

    def _return(self, client_id: str, absent: Any) -> None:
        """A session is absent no more."""
        del self._absent[client_id]
        self.kept.total -= absent.unacked_bytes

    def _restore(self, stored: StoredSession, journal: Journal) -> None:
        """A session as it was; its absence counts from now, for the time without a broker was not its fault."""
        session = Session()
        session.client_id, session.username, session.clean_session = stored.client_id, stored.username, False
        session.retained_messages = Backlog(self.kept)
        for packet_id in stored.received:
            session.inflight_in[packet_id] = None
        for message, released in stored.messages:
            if message.packet_id is None:
                session.retained_messages.put_nowait(message)
                continue
            message.pubrec_packet = released or None
            session.inflight_out[message.packet_id] = message
        for topic_filter, qos in stored.filters:
            self.filters.add(stored.client_id, topic_filter, qos)
        notes = journal.known(stored.number)
        self._set_absent(session, stored.credential, notes)

    def _forget(self, client_id: str) -> None:
        self.filters.drop(client_id)
        session, held = self._sessions.pop(client_id, (None, None))
        if held is None:
            return
        if client_id in self._absent:
            self._return(client_id, held)
        session.retained_messages.clear()
        if held.notes is not None:
            held.notes.end()

    async def _session_monitor(self) -> None:
        expiry_at = self._loop.time() + EXPIRY_SWEEP_S
        while True:
            await asyncio.sleep(self.limits.recheck_s)
            self.close_unwelcome()
            if self._tls is not None:
                self._tls.refresh()
            self._report_refused()
            if self._loop.time() >= expiry_at:
                expiry_at = self._loop.time() + EXPIRY_SWEEP_S
                self.forget_expired(self._loop.time())

    def _report_refused(self) -> None:
        if refused := self._doors.report(self._loop.time()):
            log.warning("connections_refused count=%d reason='too many'", refused)
