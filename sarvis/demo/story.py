"""The steps of the demo: each waits for an event, and fails with the event that did not come."""

import contextlib
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rich.cells import set_cell_size
from rich.console import Console
from rich.markup import escape

from sarvis.children import Child, ChildFailedError, Line

UID = "alice"
DEVICE = "jetson-1"
HEARTBEAT_INTERVAL_S = 1.0
HEARTBEAT_TIMEOUT_S = 5.0
START_S = 40.0
STEP_S = 15.0
AFTER_FILE_S = 6.0

Wanted = Callable[[Line], bool]


@dataclass
class Story:
    """One run of the demo with one recording.

    Args:
    wav: what the microphone records.
    length_s: its length with the silence before it, in seconds.
    """

    console: Console
    wav: Path
    length_s: float
    _children: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)
    _began: float = field(default_factory=time.monotonic)
    _folder: Path = Path()

    async def tell(self) -> None:
        """Run it; raises ChildFailedError with the first step that failed. All processes have ended afterwards."""
        with tempfile.TemporaryDirectory(prefix="sarvis-demo-") as folder:
            self._folder = Path(folder)
            async with self._children:
                await self._play()

    async def _play(self) -> None:
        broker = await self._start("broker", "broker", "--port", "0")
        mqtt_url = await broker.url(START_S)
        self._say("broker", "listening", mqtt_url)
        bridge = await self._start(
            "bridge", "bridge", "--port", "0", "--mqtt-url", mqtt_url,
            "--store-url", f"sqlite:///{self._folder / 'ledger.db'}",
        )  # fmt: skip
        http_url = await bridge.url(START_S)
        await bridge.expect("the bridge reaches the broker", _event("mqtt_connected"), STEP_S)
        self._say("bridge", "listening", http_url)
        app = await self._start(
            "app", "app", "--json", "--uid", UID, "--url", http_url.replace("http:", "ws:"),
            "--heartbeat-interval-s", str(HEARTBEAT_INTERVAL_S),
        )  # fmt: skip
        await app.expect("the app connects", _message("connection_established"), START_S)
        self._say("app", "connection_established", f"{UID}'s phone is connected")
        await app.expect("a heartbeat is answered", _message("heartbeat_ack"), STEP_S)
        self._say("app", "heartbeat_ack", "and one every second from now on")
        edge = await self._hear(mqtt_url, app)
        await self._fall_silent(app, edge, bridge)

    async def _hear(self, mqtt_url: str, app: Child) -> Child:
        edge = await self._start(
            "edge", "edge", "--json", "--device-id", DEVICE, "--uid", UID, "--source", f"wav:{self.wav}",
            "--mqtt-url", mqtt_url, "--http-port", "0", "--state-dir", str(self._folder / "edge"),
        )  # fmt: skip
        await edge.expect("the edge listens", _event("listening"), START_S)
        self._say("edge", "listening", f"to {self.wav.name}")
        await edge.expect("the edge is logged in", _event("logged_in"), STEP_S)
        self._say("edge", "logged in", f"{UID} on {DEVICE}")
        try:
            wake = await edge.expect("the wake word", _event("wake"), self.length_s + AFTER_FILE_S)
        except ChildFailedError as error:
            if edge.process.returncode is not None:
                raise
            raise ChildFailedError(f"not heard: no «싸비스» in {self.wav.name}") from error
        self._say("edge", "heard «싸비스»", f"score {wake['score']:.3f}")
        push = await app.expect("the push", _message("voice_command"), STEP_S)
        late_ms = (push["at"] - wake["at"]) * 1000
        command = push["message"]["command"]
        self._say("app", "voice_command", f"{command}, {late_ms:.1f} ms after the edge recognised it")
        outcome = await edge.expect("the app's answer", lambda line: line.get("status") == "acked", STEP_S)
        self._say("edge", "outcome acked", f"the app rang; the bridge counted {outcome['bridge_ms']:.1f} ms")
        return edge

    async def _fall_silent(self, app: Child, edge: Child, bridge: Child) -> None:
        app.kill()
        last_beat = max(line["at"] for line in await app.ended() if _message("heartbeat_ack")(line))
        self._say(
            "app",
            "kill -9",
            f"silent, no goodbye; the time-out is {HEARTBEAT_TIMEOUT_S:.0f} s here, an hour by default",
        )
        logout = await edge.expect("the log-out", _event("logged_out"), HEARTBEAT_TIMEOUT_S + STEP_S)
        self._say("edge", "logged out", f"{logout['at'] - last_beat:.1f} s after the last heartbeat: session deleted")
        await edge.expect("standby", lambda line: line.get("state") == "standby", STEP_S)
        self._say("edge", "led standby", "light off, nothing is published now")
        await bridge.expect("the confirmation", _event("logout_confirmed"), STEP_S)
        self._say("bridge", "logout confirmed", f"{DEVICE} has said so itself")

    async def _start(self, name: str, *arguments: str) -> Child:
        child = await Child.start(
            name,
            *arguments,
            folder=self._folder,
            settings={
                "SARVIS_BRIDGE__HEARTBEAT_TIMEOUT_S": str(HEARTBEAT_TIMEOUT_S),
                "SARVIS_BROKER__DIR": str(self._folder / "broker"),
            },
        )
        self._children.push_async_callback(child.stop)
        return child

    def _say(self, who: str, what: str, more: str) -> None:
        passed = time.monotonic() - self._began
        self.console.print(
            f"[dim]{passed:6.2f} s[/]  [bold]{who:<7}[/] [green]{escape(set_cell_size(what, 23))}[/] {escape(more)}",
            highlight=False,
            soft_wrap=True,
        )


def _event(name: str) -> Wanted:
    return lambda line: line.get("event") == name


def _message(kind: str) -> Wanted:
    return lambda line: isinstance(line.get("message"), dict) and line["message"].get("type") == kind
