"""Brokers that can be killed and started again on their port, and clients of every side."""

import asyncio
import json
import signal
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self
from urllib.parse import urlencode
from uuid import uuid4

import httpx2
import numpy as np
import soundfile
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tests.support.paho_clients import end
from tests.support.ports import free_port
from tests.support.processes import Sarvis
from tests.support.programs import program
from tests.support.services import Service
from tests.support.waiting import PATIENCE_S, wait_for

HOST = "127.0.0.1"
PREFIX = "sarvis/v1"
NO_BROKER = f"mqtt://{HOST}:9"
"""Where nobody listens; a bridge that is given it is not waited for until it is ready."""
CLIPS = Path(__file__).parents[1] / "data"
WORD = CLIPS / "ssabiseu_em_alex.wav"
SAMPLE_RATE_HZ = 16_000
QUICK: Mapping[str, str] = {"SARVIS_MQTT__RECONNECT_MAX_S": "0.5"}

Json = dict[str, Any]


def unique(kind: str) -> str:
    return f"{kind}-{uuid4().hex[:10]}"


def anything(_: Json) -> bool:
    return True


class Broker(Protocol):
    """A real broker on a port of its own."""

    port: int

    @property
    def url(self) -> str: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class EmbeddedBroker(Service):
    """`sarvis broker`."""

    def __init__(self, folder: Path) -> None:
        self.port = 0
        self._folder = folder
        self._sarvis: Sarvis | None = None

    @property
    def url(self) -> str:
        return f"mqtt://{HOST}:{self.port}"

    def start(self) -> None:
        self._sarvis = Sarvis("broker", "--port", str(self.port), cwd=self._folder)
        with self._sarvis.starting():
            told = self._sarvis.line_after("broker listening on mqtt://")
        self.port = int(told.rsplit(":", 1)[1])

    def stop(self) -> None:
        if self._sarvis is not None:
            self._sarvis.__exit__(None, None, None)

    def kill(self) -> None:
        assert self._sarvis is not None
        self._sarvis.kill()
        self.stop()


class Mosquitto(Service):
    """Debian's mosquitto; skips by name when it is absent."""

    def __init__(self, folder: Path, more: str = "") -> None:
        """`more` lines of configuration."""
        self.port = free_port()
        self._program = program("mosquitto")
        self._config = folder / "mosquitto.conf"
        self._process: subprocess.Popen[bytes] | None = None
        if "persistence" not in more:
            more = f"persistence false\n{more}"
        self._config.write_text(f"listener {self.port} {HOST}\nallow_anonymous true\n{more}\n")

    @property
    def url(self) -> str:
        return f"mqtt://{HOST}:{self.port}"

    def start(self) -> None:
        self._process = subprocess.Popen(
            [self._program, "-c", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            wait_for("mosquitto's port", self._serves)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            # It listens before it handles signals: told so early, it just ends.
            assert self._process.wait(PATIENCE_S) in {0, -signal.SIGTERM}

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def _serves(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"mosquitto ended with {self._process.returncode} before it listened"
        return accepts(self.port)


BROKERS: dict[str, Callable[[Path], Broker]] = {"embedded": EmbeddedBroker, "mosquitto": Mosquitto}


def accepts(port: int) -> bool:
    import socket  # noqa: PLC0415 - the only use

    try:
        socket.create_connection((HOST, port), timeout=PATIENCE_S).close()
    except OSError:
        return False
    return True


class Bridge(Service):
    """`sarvis bridge`, which can be killed and started again on its port."""

    def __init__(
        self,
        folder: Path,
        mqtt_url: str | None,
        settings: Mapping[str, str] | None = None,
        *,
        key: str | None = None,
        tls: ssl.SSLContext | None = None,
        config: Path | None = None,
        module: str = "sarvis",
    ) -> None:
        self.port = 0
        self.mqtt_url = mqtt_url
        self._module = module
        self._config = config
        self._folder = folder
        self._settings = {**QUICK, **(settings or {})}
        self.sarvis: Sarvis
        self.scheme = "http"
        self.tls = tls
        self.http = httpx2.Client(
            trust_env=False,
            timeout=PATIENCE_S,
            verify=tls or False,
            headers={} if key is None else {"authorization": f"Bearer {key}"},
        )

    def start(self) -> None:
        """Returns when it is ready; when it has no broker, as soon as it listens."""
        self.sarvis = Sarvis(
            "bridge", "--port", str(self.port),
            *(["--mqtt-url", self.mqtt_url] if self.mqtt_url else []),
            *(["--config", str(self._config)] if self._config else []),
            cwd=self._folder, settings=self._settings, module=self._module,
        )  # fmt: skip
        with self.sarvis.starting():
            told = self.sarvis.line_after("bridge listening on ")
            self.scheme, self.port = told.partition(":")[0], int(told.rsplit(":", 1)[1])
            if self.mqtt_url != NO_BROKER:
                self.wait_ready()

    def stop(self) -> None:
        self.http.close()
        self.sarvis.__exit__(None, None, None)

    def kill(self) -> None:
        self.sarvis.kill()
        self.sarvis.__exit__(None, None, None)

    @property
    def url(self) -> str:
        return f"{self.scheme}://{HOST}:{self.port}"

    def wait_ready(self) -> None:
        wait_for("the bridge is ready", lambda: self.readiness()[0] == 200)

    def readiness(self) -> tuple[int, Json]:
        try:
            response = self.http.get(f"{self.url}/readyz")
        except httpx2.TransportError:
            return 0, {}
        return response.status_code, response.json()

    def metric(self, line: str) -> float:
        for text in self.http.get(f"{self.url}/metrics").text.splitlines():
            if text.startswith(f"{line} "):
                return float(text.rsplit(" ", 1)[1])
        return 0.0

    def post(self, path: str, body: Json) -> Json:
        response = self.http.post(self.url + path, json=body)
        assert response.status_code == 200, response.text
        answer: Json = response.json()
        return answer

    def trigger(self, uid: str, command: str = "wake_up") -> Json:
        return self.post("/api/voice-command/trigger", {"uid": uid, "command": command, "timestamp": "now"})

    def app(
        self,
        uid: str,
        *,
        legacy: bool = False,
        client: str | None = None,
        acks: bool = True,
        token: str | None = None,
    ) -> "App":
        return App(self.port, uid, legacy=legacy, client=client, acks=acks, token=token, tls=self.tls)


class App:
    """A user's socket: collects what comes.

    If `acks`, it confirms wakes as sarvis.v2 and, as apps do, takes one that comes again for the same: a bridge repeats
    what is not confirmed within two seconds, which a busy machine may need.
    """

    def __init__(
        self,
        port: int,
        uid: str,
        *,
        legacy: bool,
        client: str | None,
        acks: bool,
        token: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.uid = uid
        self.heard: list[Json] = []
        self.code: int | None = None
        self._acks = acks and not legacy
        self._rung: set[str] = set()
        asked = {"client": client, "token": token if legacy else None}
        query = urlencode({name: value for name, value in asked.items() if value is not None})
        offered = [Subprotocol("sarvis.v2"), *([Subprotocol(token)] if token else [])]
        self._address = f"{'wss' if tls else 'ws'}://{HOST}:{port}/ws/app/{uid}/?{query}"
        self._offered = None if legacy else offered
        self._tls = tls
        self._opened: Future[tuple[asyncio.AbstractEventLoop, ClientConnection]] = Future()
        # Not the library's client for threads: over TLS it reads and writes one SSL object at once, and one connection
        # in a hundred loses its first bytes.
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live()), daemon=True)
        self._thread.start()
        self._loop, self.socket = self._opened.result(PATIENCE_S)
        self.message("connection_established")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._left.set)
        self._thread.join()

    async def _live(self) -> None:
        try:
            socket = await connect(
                self._address, subprotocols=self._offered, ssl=self._tls, compression=None, proxy=None,
                open_timeout=PATIENCE_S,
            )  # fmt: skip
        except Exception as error:  # noqa: BLE001 - whoever asked for the connection gets it
            self._opened.set_exception(error)
            return
        self._left = asyncio.Event()
        self._opened.set_result((asyncio.get_running_loop(), socket))
        reader = asyncio.create_task(self._read(socket))
        await self._left.wait()
        await socket.close()
        await reader

    async def _read(self, socket: ClientConnection) -> None:
        try:
            while True:
                message = json.loads(await socket.recv())
                if not self._acks or message["type"] != "voice_command":
                    self.heard.append(message)
                    continue
                if message["id"] not in self._rung:
                    self._rung.add(message["id"])
                    self.heard.append(message)
                await socket.send(json.dumps({"type": "ack", "id": message["id"]}))
        except ConnectionClosed as closed:
            self.code = closed.rcvd.code if closed.rcvd else 1006

    def say(self, message: Json) -> None:
        asyncio.run_coroutine_threadsafe(self.socket.send(json.dumps(message)), self._loop).result(PATIENCE_S)

    def messages(self, kind: str) -> list[Json]:
        return [message for message in list(self.heard) if message["type"] == kind]

    def message(self, kind: str, nth: int = 1) -> Json:
        def look() -> Json | None:
            found = self.messages(kind)
            return found[nth - 1] if len(found) >= nth else None

        return wait_for(f"{kind} number {nth} for {self.uid}; heard {self.heard}", look)

    def all_before(self) -> None:
        """Wait until everything that was on its way has come: a heartbeat's answer comes after it."""
        count = len(self.messages("heartbeat_ack"))
        self.say({"type": "heartbeat"})
        self.message("heartbeat_ack", count + 1)

    def closed_with(self) -> int:
        wait_for(f"{self.uid}'s socket is closed; heard {self.heard}", lambda: self.code is not None)
        assert self.code is not None
        return self.code


class Mqtt:
    """A plain MQTT client that hears everything under a prefix."""

    def __init__(self, port: int, prefix: str = PREFIX) -> None:
        self.prefix = prefix
        self.got: list[tuple[str, bytes, bool]] = []
        self._subscribed = threading.Event()
        self.paho = paho.Client(CallbackAPIVersion.VERSION2, unique("test"), reconnect_on_failure=False)
        self.paho.on_message = lambda _c, _u, raw: self.got.append((raw.topic, bytes(raw.payload), raw.retain))
        self.paho.on_subscribe = lambda *_: self._subscribed.set()
        self.paho.connect(HOST, port)
        self.paho.loop_start()
        self.paho.subscribe(f"{prefix}/#", 1)
        assert self._subscribed.wait(PATIENCE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        end(self.paho)

    def publish(self, topic: str, payload: Json | bytes, *, retain: bool = False) -> None:
        data = payload if isinstance(payload, bytes) else json.dumps(payload, ensure_ascii=False).encode()
        info = self.paho.publish(f"{self.prefix}/{topic}", data, 1, retain)
        info.wait_for_publish(PATIENCE_S)
        assert info.is_published()

    def messages(self, topic: str) -> list[Json]:
        wanted = f"{self.prefix}/{topic}"
        return [json.loads(payload) for name, payload, _ in list(self.got) if name == wanted and payload]

    def message(self, topic: str, wanted: Callable[[Json], bool] = anything, nth: int = 1) -> Json:
        def look() -> Json | None:
            found = [message for message in self.messages(topic) if wanted(message)]
            return found[nth - 1] if len(found) >= nth else None

        try:
            return wait_for(f"message {nth} on {topic}", look)
        except AssertionError as error:
            raise AssertionError(f"{error}; heard {[name for name, _, _ in self.got]}") from None

    def outcomes(self, device_id: str, wake_id: str) -> list[str]:
        told = self.messages(f"devices/{device_id}/outcome")
        return [outcome["status"] for outcome in told if outcome["id"] == wake_id]

    def outcome(self, device_id: str, wake_id: str, nth: int = 1) -> str:
        found = self.message(f"devices/{device_id}/outcome", lambda outcome: outcome["id"] == wake_id, nth)
        status: str = found["status"]
        return status

    def wake(self, device_id: str, uid: str, **more: Any) -> str:
        """Publish a wake as a device would; its id."""
        wake_id: str = more.setdefault("id", unique("wake"))
        wake = {"uid": uid, "command": "wake_up", "timestamp": "2026-01-01T00:00:00+00:00", **more}
        self.publish(f"devices/{device_id}/wake", wake)
        return wake_id


class Edge:
    """`sarvis edge` whose ear is a pipe: it hears a word only when a test says one."""

    def __init__(
        self,
        folder: Path,
        mqtt_url: str | None,
        *,
        device_id: str | None = None,
        uid: str | None = None,
        settings: Mapping[str, str] | None = None,
        config: Path | None = None,
        source: str = "stdin",
    ) -> None:
        self._config = config
        self._source = source
        self.device_id = device_id or unique("jetson")
        self.uid = uid
        self.http_port = 0
        self._folder = folder
        self._mqtt_url = mqtt_url
        self._settings = {**QUICK, **(settings or {})}
        self.sarvis: Sarvis

    def start(self) -> None:
        self.sarvis = Sarvis(
            "edge", "--json", "--device-id", self.device_id, *(["--uid", self.uid] if self.uid else []),
            "--source", self._source, "--http-port", "0",
            *(["--mqtt-url", self._mqtt_url] if self._mqtt_url else []),
            *(["--config", str(self._config)] if self._config else []),
            "--state-dir", str(self._folder / "state"),
            cwd=self._folder, settings=self._settings, stdin=subprocess.PIPE,
        )  # fmt: skip
        with self.sarvis.starting():
            listening = self.event("listening")
        self.http_port = int(listening["http"].rsplit(":", 1)[1])

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sarvis.__exit__(kind, error, trace)

    def kill(self) -> None:
        self.sarvis.kill()
        self.sarvis.__exit__(None, None, None)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.http_port}"

    def mark(self) -> int:
        """A moment in its life; give it as `since`."""
        return len(self.sarvis.out)

    def said(self, event: str, since: int = 0) -> list[Json]:
        lines: list[Json] = [json.loads(line) for line in self.sarvis.out[since:]]
        return [line for line in lines if line["event"] == event]

    def event(
        self, event: str, wanted: Callable[[Json], bool] = anything, *, since: int = 0, within_s: float = PATIENCE_S
    ) -> Json:
        """Wait for an event of this name on its standard output."""

        def look() -> Json | None:
            goes_on = self.sarvis.may_say_more()
            found = [line for line in self.said(event, since) if wanted(line)]
            assert found or goes_on, "\n".join(self.sarvis.err)
            return found[0] if found else None

        try:
            return wait_for(f"event {event} of {self.device_id}", look, within_s)
        except AssertionError as error:
            raise AssertionError("\n".join([str(error), *self.sarvis.out[since:], *self.sarvis.err])) from None

    def metrics(self) -> dict[str, float]:
        """What a scrape of it gives, by name and labels."""
        told = httpx2.get(f"{self.url}/metrics", trust_env=False, timeout=PATIENCE_S).raise_for_status().text
        values = (line.rsplit(" ", 1) for line in told.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, value in values}

    def hear_word(self) -> None:
        """Three seconds of silence, the word and a second of silence, as fast as it listens."""
        word, rate = soundfile.read(WORD, dtype="int16")
        assert rate == SAMPLE_RATE_HZ
        silence = np.zeros(SAMPLE_RATE_HZ, np.int16)
        stdin = self.sarvis.process.stdin
        assert stdin is not None
        stdin.write(np.concatenate((silence, silence, silence, word, silence)).astype("<i2").tobytes())
        stdin.flush()


def pause(seconds: float) -> None:
    """Give something that must not happen the time to happen."""
    time.sleep(seconds)
