"""The embedded broker, or aMQTT as it is ("stock"), in a thread; clients that hear all, sockets that say anything."""

import asyncio
import gc
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self
from uuid import uuid4

import pytest
from amqtt.broker import Broker
from amqtt.mqtt.connect import ConnectPacket, ConnectPayload, ConnectVariableHeader
from amqtt.mqtt.publish import PublishPacket
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from broker.server.embedded import EmbeddedBroker
from broker.server.limits import Limits
from tests.support.paho_clients import end
from tests.support.ports import free_port
from tests.support.waiting import PATIENCE_S

HOST = "127.0.0.1"
STOCK_PLUGINS = {
    "amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True},
    "amqtt.plugins.topic_checking.TopicTabooPlugin": {},
}
KINDS = [
    # aMQTT leaves sockets to the garbage collector; ours must not, so only tests of the stock broker are excused.
    pytest.param("stock", marks=pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")),
    "ours",
]
both = pytest.mark.parametrize("running", KINDS, indirect=True)
"""The test runs on aMQTT as it is, where it must see the defect, and on ours, where it must not."""
both_kinds = pytest.mark.parametrize("kind", KINDS)
"""The same for a test that starts its broker itself."""


def eventually(condition: Callable[[], Any], timeout_s: float = PATIENCE_S) -> bool:
    """Whether the condition came true in time."""
    deadline = time.monotonic() + timeout_s
    while not (met := bool(condition())) and time.monotonic() < deadline:
        time.sleep(0.01)
    return met


@contextmanager
def started(kind: str = "ours", limits: Limits | None = None, **options: Any) -> Iterator["Running"]:
    """A broker of this kind, stopped at the end, with what it left lying about collected."""
    broker = Running(kind, limits, **options)
    try:
        yield broker
    finally:
        broker.stop()
        del broker
        if kind == "stock":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)
                gc.collect()


class Running:
    """A broker in a loop of its own thread, so that tests may block."""

    def __init__(
        self, kind: str = "ours", limits: Limits | None = None, *, plugins: Any = None, **options: Any
    ) -> None:
        """Start; `plugins` are the stock broker's, `limits` and `options` ours'."""
        self.ours = kind == "ours"
        self._plugins = plugins or STOCK_PLUGINS
        self.port = free_port()
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        self.embedded = EmbeddedBroker(HOST, self.port, limits=limits, **options)
        self.broker: Any = None
        try:
            self.call(self._start())
        except BaseException:
            self._end_loop()
            raise

    def within(self, defect_shown_s: float) -> float:
        """How long to wait for what only ours does: ours may be slow, stock's defect is seen after so many seconds."""
        return PATIENCE_S if self.ours else defect_shown_s

    async def _start(self) -> None:
        if self.ours:
            await self.embedded.start()
            self.broker = self.embedded._broker
        else:
            listener = {"type": "tcp", "bind": f"{HOST}:{self.port}"}
            self.broker = Broker({"listeners": {"default": listener}, "plugins": self._plugins})
            await self.broker.start()

    def call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(PATIENCE_S)

    def cpu_s(self) -> float:
        """CPU time that the broker's thread has used."""

        async def used() -> float:
            return time.thread_time()

        return float(self.call(used()))

    def stop(self) -> None:
        try:
            self.call(self.embedded.stop() if self.ours else self.broker.shutdown())
        finally:
            self._end_loop()

    def is_away(self, name: str) -> bool:
        """Whether the broker knows that the client of a persistent session has left."""
        session, connection = self.broker._sessions[name]
        return bool(connection.ended.is_set() if self.ours else session.transitions.state == "disconnected")

    def filters(self) -> int:
        return len(self.broker.filters if self.ours else self.broker.subscriptions)

    def _end_loop(self) -> None:
        async def rest() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self.call(rest())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


class Client:
    """A paho client in its thread, and all that it heard."""

    def __init__(
        self, port: int, name: str = "", *, clean: bool = True, will: tuple[Any, ...] = (), login: tuple[str, ...] = ()
    ) -> None:
        self.name = name or f"c{uuid4().hex[:12]}"
        self.got: list[paho.MQTTMessage] = []
        self.codes: list[int] = []
        self.flags: Any = None
        self.done = 0
        self.paho = paho.Client(CallbackAPIVersion.VERSION2, self.name, clean_session=clean, reconnect_on_failure=False)
        self.paho.max_inflight_messages_set(1000)
        self.paho.on_message = lambda _c, _u, message: self.got.append(message)
        self.paho.on_connect = self._on_connect
        self.paho.on_subscribe = self._on_subscribe
        self.paho.on_unsubscribe = self._on_done
        if will:
            self.paho.will_set(*will)
        if login:
            self.paho.username_pw_set(*login)
        self.paho.connect(HOST, port, keepalive=30)
        self.paho.loop_start()

    def _on_connect(self, _client: Any, _data: Any, flags: Any, code: Any, _properties: Any) -> None:
        self.flags = (flags.session_present, code.value)

    def _on_subscribe(self, _client: Any, _data: Any, _id: int, codes: Any, _properties: Any) -> None:
        self.codes = [code.value for code in codes]
        self.done += 1

    def _on_done(self, *_: Any) -> None:
        self.done += 1

    def __enter__(self) -> Self:
        assert eventually(lambda: self.flags is not None)
        return self

    def __exit__(self, *_: object) -> None:
        end(self.paho)

    def subscribe(self, *filters: tuple[str, int]) -> list[int]:
        before = self.done
        self.paho.subscribe(list(filters))
        assert eventually(lambda: self.done > before)
        return self.codes

    def unsubscribe(self, *filters: str) -> None:
        before = self.done
        self.paho.unsubscribe(list(filters))
        assert eventually(lambda: self.done > before)

    def publish(self, topic: str, data: bytes = b"x", qos: int = 1, *, retain: bool = False) -> None:
        info = self.paho.publish(topic, data, qos, retain)
        info.wait_for_publish(PATIENCE_S)
        assert info.is_published()

    def heard(self) -> list[tuple[str, bytes]]:
        return [(message.topic, bytes(message.payload)) for message in list(self.got)]


class Raw:
    """A socket that says exactly what a test wants."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection((HOST, port), timeout=PATIENCE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *packets: Any) -> None:
        self.socket.sendall(b"".join(p if isinstance(p, bytes) else p.to_bytes() for p in packets))

    def connect(self, name: str = "", *, keep_alive: int = 60, will: tuple[str, bytes] | None = None) -> Self:
        header = ConnectVariableHeader(0x02 | (0x2C if will else 0), keep_alive)
        payload = ConnectPayload(name or uuid4().hex, *(will or ()))
        self.send(ConnectPacket(variable_header=header, payload=payload))
        assert self.socket.recv(4) == b"\x20\x02\0\0"
        return self

    def read(self, size: int) -> bytes:
        """Exactly so many bytes; fewer if no more come."""
        got = b""
        while len(got) < size and (more := self.socket.recv(size - len(got))):
            got += more
        return got

    def silent(self, for_s: float = 0.2) -> bool:
        """Whether nothing comes for a while."""
        self.socket.settimeout(for_s)
        try:
            return not self.socket.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(PATIENCE_S)

    def closed(self, timeout_s: float = PATIENCE_S) -> bool:
        """Whether the broker closes the socket in time; what it says before is read away."""
        deadline = time.monotonic() + timeout_s
        while (left_s := deadline - time.monotonic()) > 0:
            self.socket.settimeout(left_s)
            try:
                if not self.socket.recv(65536):
                    return True
            except TimeoutError:
                break
            except OSError:
                return True
        return False


def publication(topic: str, data: bytes = b"x", qos: int = 0, packet_id: int | None = None) -> Any:
    return PublishPacket.build(topic, data, packet_id, dup_flag=False, qos=qos, retain=False)
