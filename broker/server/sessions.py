"""Serves sockets from accept to the last will, and decides who holds a client id."""

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from pathlib import Path
from typing import Any

from amqtt.mqtt.packet import CONNECT

from broker.server import connect_packet as greeting
from broker.server import metrics
from broker.server.auth import Authorizer, ClientIdError
from broker.server.closing import abort, hang_up, say_last
from broker.server.codec import encode_connack, split
from broker.server.connection import Connection, packets
from broker.server.journal import Journal, Notes
from broker.server.journal_writer import JournalWriter
from broker.server.limits import Limits
from broker.server.offline_client import OfflineClient
from broker.server.offline_queue import OfflineQueue, cost
from broker.server.router import RoutingBroker
from broker.server.session import Session
from broker.server.store import Store, StoredSession
from broker.server.tls import LaterTlsProtocol, ServerTls
from contract.errors import MessageError
from infra.connection_limits import ConnectionLimits, Guest
from infra.log_limit import LogLimit
from infra.open_files import for_connections, raise_limit

log = logging.getLogger(__name__)

EXPIRY_SWEEP_S = 60.0
RESERVE = 16
"""Connections reserved for the broker's own machine: the bridge, and an operator's tools."""

NOT_SPOKEN = encode_connack(present=False, code=1)
"""This version is not supported."""
WRONG_ID = encode_connack(present=False, code=2)
"""This client id is not allowed."""
NOT_ALLOWED = encode_connack(present=False, code=5)
"""This user may not connect, or not with this client id."""


class HardenedBroker(RoutingBroker):
    """One connection per client id; it closes every socket that it gets."""

    def __init__(
        self, access: Authorizer, limits: Limits, tls: ServerTls | None = None, store: Path | None = None
    ) -> None:
        super().__init__(access, limits)
        self._tls = tls
        self._store = store
        self._journal_writer: JournalWriter | None = None
        self.room = _room(limits)
        self._served: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}
        self._stopping = False
        self._rarely = LogLimit()
        self._untold = 0
        self._absent: dict[str, None] = {}
        """Persistent sessions without a connection, the one absent longest first."""

    def count_sessions(self) -> tuple[int, int]:
        """How many are connected and absent."""
        return len(self._sessions) - len(self._absent), len(self._absent)

    def count_retained(self) -> int:
        """How many messages are retained."""
        return len(self._retained_messages)

    def count_queued(self) -> tuple[int, int]:
        """How many messages wait for absent sessions, and their cost in bytes."""
        absent = [self._sessions[client_id][0] for client_id in self._absent]
        return sum(len(each.queue) + len(each.inflight_out) for each in absent), self.kept.total

    async def start(self) -> None:
        """Load the store, then start aMQTT's own tasks; raises StartError."""
        metrics.show(self)
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
        self._journal_writer = JournalWriter(store, self.journal, self.answer_saved)
        self._journal_writer.start()

    def protocol(self, guest: Guest) -> asyncio.StreamReaderProtocol:
        """The protocol of one accepted socket."""

        def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Coroutine[Any, Any, None]:
            return self._serve_client(reader, writer, guest)

        kind = LaterTlsProtocol if self._tls else asyncio.StreamReaderProtocol
        return kind(asyncio.StreamReader(), serve)

    async def _serve_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, guest: Guest) -> None:
        """A client's fault ends here, in one log line."""
        task = asyncio.current_task()
        peer = writer.get_extra_info("peername")
        if task is None or peer is None:  # the client left before it was served
            abort(writer)
            return
        self._served[task] = writer
        try:
            identity = await self._tls.handshake(writer, self.limits.connect_timeout_s) if self._tls else None
            try:
                async with aclosing(packets(reader, self.limits)) as stream:
                    await self._serve(stream, writer, identity, guest.proven)
            except greeting.VersionError:
                await say_last(reader, writer, NOT_SPOKEN, self.limits.close_timeout_s)
                raise
            except ClientIdError:
                await say_last(reader, writer, WRONG_ID, self.limits.close_timeout_s)
                raise
        except MessageError as error:
            self._rejected(peer, error.reason)
        except OSError as error:
            log.info("connection_lost peer=%s reason=%r", peer, error)
        finally:
            await hang_up(writer, self.limits.close_timeout_s)
            del self._served[task]

    async def watch(self) -> None:
        """Until cancelled; raises the fault by which the store's writer ended."""
        if self._journal_writer is not None:
            await self._journal_writer.watch()
        await asyncio.Event().wait()

    async def shutdown(self) -> None:
        """End every connection, then aMQTT's own tasks; publishes no wills."""
        self._stopping = True
        await asyncio.sleep(0)  # a newly accepted socket gets its task
        for end in (asyncio.StreamWriter.close, abort):
            for writer in self._served.values():
                end(writer)
            if self._served:
                await asyncio.wait(self._served, timeout=self.limits.close_timeout_s)
        saver, self._journal_writer = self._journal_writer, None
        if saver is not None:
            await saver.stop()
        await super().shutdown()

    def forget_expired(self, now: float) -> None:
        """Delete the persistent sessions that were absent too long."""
        for client_id, (_, connection) in list(self._sessions.items()):
            if connection.ended.is_set() and now - connection.ended_at > self.limits.session_expiry_s:
                self._forget(client_id)

    def close_unwelcome(self) -> None:
        """End the connections and sessions of users who were removed or whose password changed."""
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
        session = await self._handshake(stream)
        connection = Connection(session, writer.transport, self, self.limits)
        if not await self._admit(connection, session, identity):
            writer.write(NOT_ALLOWED)
            raise MessageError(f"user {session.username!r} may not connect as {session.client_id!r}")
        let_in()
        await self._claim(connection, session)
        goodbye = False
        try:
            writer.write(encode_connack(present=session.present, code=0))
            connection.resume()
            goodbye = await connection.run(stream)
        finally:
            self._leave(connection, session, goodbye=goodbye or self._stopping)

    async def _admit(self, connection: Connection, session: Session, identity: str | None) -> bool:
        """Whether to accept a client; the name in its certificate counts, not the one in CONNECT."""
        if identity is not None:
            session.username = identity
        # Read before the decision: a change in between is noticed.
        connection.credential = self.access.credential(session.username)
        if identity is not None:
            return self.access.may_connect_certified(session.client_id, identity)
        if self._tls is not None and self._tls.asks_for_certificates:
            return False
        password, session.password = session.password, None
        return await self.access.may_connect(session.client_id, session.username, password)

    async def _handshake(self, stream: AsyncGenerator[bytes, None]) -> Session:
        """A session as the first packet asks for it; raises MessageError."""
        try:
            async with asyncio.timeout(self.limits.connect_timeout_s):
                first = await anext(stream, b"")
        except TimeoutError:
            raise MessageError(f"no CONNECT within {self.limits.connect_timeout_s:g} s") from None
        if not first:
            raise ConnectionError("closed before CONNECT")
        kind, body = split(first)
        if kind != CONNECT:
            raise MessageError(f"packet type {kind} before CONNECT")
        wanted = greeting.read(body)
        if not wanted.client_id and not wanted.clean:
            raise ClientIdError("CONNECT refused: it asks for a lasting session, and has no client id")
        return Session(
            wanted.client_id or f"unnamed/{secrets.token_hex(8)}",
            wanted.username,
            wanted.clean,
            OfflineQueue(self.kept),
            wanted.password,
            wanted.keep_alive_s,
            wanted.will,
        )

    async def _claim(self, connection: Connection, session: Session) -> None:
        """Take over the client id.

        When this returns, the older connection has ended, and its last will was published.
        """
        client_id = session.client_id
        while (held := self._sessions.get(client_id)) is not None and not held[1].ended.is_set():
            held[1].close("its client id has connected again")
            await held[1].ended.wait()
        if held is not None and not session.clean:
            session.inflight_out, session.inflight_in = held[0].inflight_out, held[0].inflight_in
            session.queue = held[0].queue
            session.present = True
            connection.notes = held[1].notes
            self._return(client_id, held[1])
        elif held is not None:
            self._forget(client_id)
        if self.journal is not None and not session.clean:
            connection.notes = connection.notes or self.journal.session()
            connection.notes.owner(client_id, session.username, connection.credential)
        self._sessions[client_id] = (session, connection)

    def _leave(self, connection: Connection, session: Session, *, goodbye: bool) -> None:
        """Publish the last will of a client without DISCONNECT, and keep or delete its session."""
        if connection.dropped:
            log.warning("qos_0_dropped client_id=%s count=%d", session.client_id, connection.dropped)
        try:
            if session.clean:
                self._forget(session.client_id)
            else:
                self._set_absent(session, connection.credential, connection.notes)
            will, session.will = session.will, None
            if will is not None and not goodbye:
                self.publish_for(session, will.topic, will.data, will.qos, retain=will.retain)
        finally:
            connection.ended.set()

    def _set_absent(self, session: Session, credential: str | None, notes: Notes | None) -> None:
        absent = OfflineClient(self._loop.time(), credential, notes)
        absent.unacked_bytes = sum(cost(message) for message in session.inflight_out.values())
        self.kept.total += absent.unacked_bytes
        self._sessions[session.client_id] = (session, absent)
        self._absent[session.client_id] = None
        if len(self._absent) > self.limits.max_sessions:
            self._forget(next(iter(self._absent)))

    def make_room(self) -> None:
        """Delete the sessions absent longest until the queues of the others are within the limit."""
        while self.kept.total > self.limits.max_kept_bytes and self._absent:
            log.warning(
                "session_forgotten client_id=%s reason='too much is kept'", client_id := next(iter(self._absent))
            )
            self._forget(client_id)

    def _return(self, client_id: str, absent: Any) -> None:
        """A session is no longer absent."""
        del self._absent[client_id]
        self.kept.total -= absent.unacked_bytes

    def _restore(self, stored: StoredSession, journal: Journal) -> None:
        """A session as it was stored; its absence counts from now, because the broker itself was stopped."""
        session = Session(stored.client_id, stored.username, False, OfflineQueue(self.kept))
        session.inflight_in.update(stored.received)
        for message, released in stored.messages:
            if message.packet_id is None:
                session.queue.put(message)
                continue
            message.released = released
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
        session.queue.clear()
        if held.notes is not None:
            held.notes.end()

    async def _session_monitor(self) -> None:
        expiry_at = self._loop.time() + EXPIRY_SWEEP_S
        while True:
            await asyncio.sleep(self.limits.recheck_s)
            self.close_unwelcome()
            if self._tls is not None:
                self._tls.refresh()
            if self._loop.time() >= expiry_at:
                expiry_at = self._loop.time() + EXPIRY_SWEEP_S
                self.forget_expired(self._loop.time())

    def _rejected(self, peer: tuple[str, int], reason: str) -> None:
        """Log it: once a minute for each address and reason, because a rejected client needs no credential."""
        if self._rarely.is_due((peer[0], reason), self._loop.time()):
            more = f" more={self._untold}" if self._untold else ""
            self._untold = 0
            log.warning("client_rejected peer=%s reason=%r%s", peer, reason, more)
        else:
            self._untold += 1


def _room(limits: Limits) -> ConnectionLimits:
    """For as many connections as the limits and the open files of this process allow."""
    files = for_connections(raise_limit())
    most = min(limits.max_connections, files)
    # One silent address leaves half of the places to the others.
    return ConnectionLimits(
        most, most_unproven=min(limits.max_unnamed_per_address, max(files // 2, 1)), reserve=min(RESERVE, most // 8)
    )
