"""A proxy between MQTT clients and a broker that hurts connections when, and as, a test says."""

import asyncio
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

from tests.support.mqtt_packets import payload_of, read_packet, topic_of
from tests.support.waiting import PATIENCE_S

HOST = "127.0.0.1"
HELD_MAX = 16 * 1024 * 1024

Direction = Literal["up", "down"]
Verdict = Literal["forward", "drop", "twice"]
Action = Callable[[bytes], Verdict]


@dataclass(frozen=True)
class Seen:
    """A PUBLISH that was read from a side; `at` is monotonic, `wall` is time.time(), up is from client to broker."""

    at: float
    wall: float
    direction: Direction
    topic: str
    payload: bytes


@dataclass(eq=False)
class Trigger:
    """Fires once: `at` is when its packet reached it, `fired` is set when that packet was treated."""

    direction: Direction
    kind: str
    device: str | None
    action: Action
    disarm: Callable[[], None]
    at: float | None = None
    fired: threading.Event = field(default_factory=threading.Event)

    def wants(self, direction: Direction, topic: str) -> bool:
        at_device = self.device is None or f"/{self.device}/" in topic
        return direction == self.direction and topic.endswith(f"/{self.kind}") and at_device


@dataclass(frozen=True)
class _Faults:
    delay_s: float = 0.0
    half_open: bool = False
    refuse: bool = False
    duplicate: bool = False


class FaultProxy:
    """Forwards to `upstream_port`, which may change for new connections; every fault is in force when its call returns.

    Its methods may be called from any thread, a trigger's action included.
    """

    def __init__(self, upstream_port: int) -> None:
        self.upstream_port = upstream_port
        self.port = 0
        self.seen: list[Seen] = []
        self._faults = _Faults()
        self._changed = asyncio.Event()
        self._triggers: list[Trigger] = []
        self._actions: set[asyncio.Task[Verdict]] = set()
        self._failures: list[BaseException] = []
        self._links: set[_Link] = set()
        self._stopping = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen; from the second time on at the same port."""
        listener = socket.create_server((HOST, self.port))
        # Inherited by what it accepts; asyncio sets it itself on connections that it opens.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.port = listener.getsockname()[1]
        self._changed, self._stopping = asyncio.Event(), asyncio.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(self._loop, listener), name="fault proxy")
        self._thread.start()

    def stop(self) -> None:
        """Reset what is connected, wait for running actions and the thread; raises what an action has raised."""
        if self._thread is not None:
            self._on_loop(self._stopping.set)
            self._thread.join()
            self._loop = self._thread = None
        failures, self._failures = self._failures, []
        if failures:
            raise failures[0]

    def when(self, direction: Direction, kind: str, action: Action, *, device: str | None = None) -> Trigger:
        """Ask `action`, which may block, about the next PUBLISH to a topic of this kind, before it is forwarded.

        Its verdict holds even if the action itself has made the connections half open; if it raises, the connection
        ends and `stop` raises the same.
        """
        trigger = Trigger(direction, kind, device, action, lambda: self._on_loop(disarm))

        def disarm() -> None:
            with suppress(ValueError):
                self._triggers.remove(trigger)

        self._on_loop(lambda: self._triggers.append(trigger))
        return trigger

    def delay(self, seconds: float) -> None:
        """Hold each packet, and the end of a connection, that long in both directions; 0 switches it off."""
        self._change(delay_s=seconds)

    def half_open(self, on: bool) -> None:
        """Read and swallow everything, the end of a connection too; switched off, who lost anything is reset."""
        self._change(half_open=on)

    def refuse(self, on: bool) -> None:
        """Reset all connections, and new ones at once."""
        self._change(refuse=on)

    def duplicate(self, on: bool) -> None:
        """Forward every PUBLISH twice."""
        self._change(duplicate=on)

    def reset(self) -> None:
        """Reset all connections on both sides, once."""
        self._on_loop(self._reset_all)

    def replay(self, direction: Direction, packet: bytes) -> None:
        """Bring a packet of old to every connection, behind what is under way in that direction."""

        def replay() -> None:
            for link in self._links:
                link.replay(direction, packet)

        self._on_loop(replay)

    def heal(self) -> None:
        """Switch everything off and disarm all triggers."""

        def heal() -> None:
            self._triggers.clear()
            self._set(_Faults())

        self._on_loop(heal)

    def _note(self, direction: Direction, packet: bytes) -> None:
        topic = topic_of(packet)
        if topic is not None:
            self.seen.append(Seen(time.monotonic(), time.time(), direction, topic, payload_of(packet)))

    def _claim(self, direction: Direction, topic: str) -> Trigger | None:
        """The trigger that this topic sets off; it is no longer armed."""
        for trigger in self._triggers:
            if trigger.wants(direction, topic):
                self._triggers.remove(trigger)
                trigger.at = time.monotonic()
                return trigger
        return None

    def _acted(self, trigger: Trigger, action: asyncio.Task[Verdict]) -> None:
        self._actions.discard(action)
        error = action.exception()
        if error is not None:
            self._failures.append(error)
        trigger.fired.set()

    def _change(self, **faults: Any) -> None:
        self._on_loop(lambda: self._set(replace(self._faults, **faults)))

    def _set(self, faults: _Faults) -> None:
        self._faults = faults
        for link in self._links:
            if faults.refuse or (link.lost and not faults.half_open):
                link.reset()
        self._changed.set()
        self._changed = asyncio.Event()

    def _reset_all(self) -> None:
        for link in self._links:
            link.reset()

    def _on_loop(self, change: Callable[[], None]) -> None:
        async def apply() -> None:
            change()
            await asyncio.sleep(0)  # asyncio closes the sockets of an aborted transport in its next round

        if self._loop is None:
            change()
        else:
            asyncio.run_coroutine_threadsafe(apply(), self._loop).result(PATIENCE_S)

    def _run(self, loop: asyncio.AbstractEventLoop, listener: socket.socket) -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(self._serve(listener))

    async def _serve(self, listener: socket.socket) -> None:
        server = await asyncio.start_server(self._accept, sock=listener)
        await self._stopping.wait()
        server.close()
        self._reset_all()
        await asyncio.gather(*(link.task for link in self._links), return_exceptions=True)
        await asyncio.gather(*self._actions, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._faults.refuse or self._stopping.is_set():
            _abort(writer)
            return
        link = _Link(self, reader, writer)
        self._links.add(link)
        link.task.add_done_callback(lambda _: self._links.discard(link))


class _Link:
    """A client's connection and the broker's; ends when one of both has, and what it said before was forwarded."""

    def __init__(self, proxy: FaultProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.lost = proxy._faults.half_open
        self._proxy = proxy
        self._writers = [writer]
        self._pipes: dict[Direction, _Pipe] = {}
        self.task = asyncio.create_task(self._run(reader, writer))

    def reset(self) -> None:
        for writer in self._writers:
            _abort(writer)
        self.task.cancel()

    def replay(self, direction: Direction, packet: bytes) -> None:
        if direction in self._pipes:
            self._pipes[direction].put(packet)

    async def _run(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        up, down = _Pipe(self._proxy, self, "up"), _Pipe(self._proxy, self, "down")
        self._pipes = {"up": up, "down": down}
        tasks = [asyncio.create_task(up.read(client))]
        try:
            if self.lost:
                await asyncio.Event().wait()  # until it is reset
            broker, to_broker = await self._reach_broker()
            self._writers.append(to_broker)
            writing = [asyncio.create_task(up.write(to_broker)), asyncio.create_task(down.write(to_client))]
            tasks += [*writing, asyncio.create_task(down.read(broker))]
            await asyncio.wait(writing, return_when=asyncio.FIRST_COMPLETED)
        except OSError:
            pass  # the broker refuses, or the client has gone
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for writer in self._writers:
                writer.close()
            await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)

    async def _reach_broker(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reaching = asyncio.create_task(asyncio.open_connection(HOST, self._proxy.upstream_port))
        try:
            return await asyncio.shield(reaching)
        except asyncio.CancelledError:
            _, writer = await reaching
            _abort(writer)  # merely cancelled it would be closed, which is no reset
            raise


class _Pipe:
    """One direction of a link: what was read waits here until it is due; an empty packet is the end."""

    def __init__(self, proxy: FaultProxy, link: _Link, direction: Direction) -> None:
        self._proxy = proxy
        self._link = link
        self._direction = direction
        self._packets: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        self._held = 0
        self._room = asyncio.Event()

    async def read(self, reader: asyncio.StreamReader) -> None:
        ended = False
        while not ended:
            packet = await read_packet(reader)
            ended = not packet
            self._proxy._note(self._direction, packet)
            if self._proxy._faults.half_open:
                self._link.lost = True
                continue
            self.put(packet)
            while self._held > HELD_MAX:
                self._room.clear()
                await self._room.wait()

    def put(self, packet: bytes) -> None:
        self._packets.put_nowait((time.monotonic(), packet))
        self._held += len(packet)

    async def write(self, writer: asyncio.StreamWriter) -> None:
        while True:
            came_at, packet = await self._packets.get()
            self._held -= len(packet)
            self._room.set()
            await self._due(came_at)
            if self._proxy._faults.half_open:
                self._link.lost = True
            elif packet:
                await self._treat(packet, writer)
            else:
                return

    async def _due(self, came_at: float) -> None:
        while (left := came_at + self._proxy._faults.delay_s - time.monotonic()) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._proxy._changed.wait()

    async def _treat(self, packet: bytes, writer: asyncio.StreamWriter) -> None:
        topic = topic_of(packet)
        trigger = self._proxy._claim(self._direction, topic) if topic is not None else None
        if trigger is None:
            await self._forward(packet, "forward", writer)
            return
        action = asyncio.create_task(asyncio.to_thread(trigger.action, packet))
        self._proxy._actions.add(action)
        try:
            # Shielded: a link that is reset meanwhile waits no longer, but the action ends all the same.
            await self._forward(packet, await asyncio.shield(action), writer)
        finally:
            action.add_done_callback(lambda done: self._proxy._acted(trigger, done))

    async def _forward(self, packet: bytes, verdict: Verdict, writer: asyncio.StreamWriter) -> None:
        if verdict == "drop":
            self._link.lost |= self._proxy._faults.half_open
            return
        twice = verdict == "twice" or (self._proxy._faults.duplicate and topic_of(packet) is not None)
        if not writer.is_closing():
            with suppress(OSError):  # who has gone is read to the end by the other direction, which ends the link
                writer.write(packet * (2 if twice else 1))
                await writer.drain()


def _abort(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):  # closed already
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
