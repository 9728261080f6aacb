"""The house around the node: a broker that dies and comes back, a bridge, an app that answers, and the sound."""

import contextlib
import resource
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2
import numpy as np

from edge_node.audio.format import FRAME_S, FRAME_SAMPLES
from tests.support.processes import Sarvis
from tests.support.waiting import wait_for
from tests.support.world import BROKERS, QUICK, App, Bridge, Edge
from tools.soak import wire
from tools.soak.programme import Programme

UID = "soak-user"
DEVICE = "soak-jetson"
AWAY_S = 1.5
"""How long a broker stays dead."""
_LOOK_S = 0.5
_PAGE = resource.getpagesize()


@dataclass
class Life:
    """What a node's process was like over the hours.

    Attributes:
        memory_mib: resident, one for each look.
        files: open, likewise.
        threads: likewise.
        numbers: the last scrape of its metrics.
    """

    memory_mib: list[float] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)
    numbers: dict[str, float] = field(default_factory=dict)


class Listening(Edge):
    """The node, whose sound card is this process."""

    def __init__(self, folder: Path, mqtt_url: str) -> None:
        super().__init__(folder, mqtt_url, device_id=DEVICE, uid=UID)
        (folder / "soak.toml").write_text(
            f'[edge]\ndevice_id = "{DEVICE}"\nuid = "{UID}"\nsource = "mic"\nhttp_port = 0\nstate_dir = "state"\n'
            f'[mqtt]\nurl = "{mqtt_url}"\n',
            encoding="utf-8",
        )

    def start(self) -> None:
        self.sarvis = Sarvis(
            cwd=self._folder,
            settings={**QUICK, "PYTHONPATH": str(Path(__file__).parents[2])},
            stdin=subprocess.PIPE,
            module="tools.soak.node",
        )
        self.http_port = int(self.event("listening")["http"].rsplit(":", 1)[1])


class House:
    """Use it in a `with` block."""

    def __init__(self, folder: Path, broker: str) -> None:
        self.broker = BROKERS[broker](folder)
        self.broker.start()
        self.bridge = Bridge(folder, self.broker.url)
        self.bridge.start()
        self.edge = Listening(folder, self.broker.url)
        self.life = Life()
        self.silent_frames = 0
        self._done = False
        self.app: App

    def __enter__(self) -> Self:
        self.edge.start()
        self.app = self.bridge.app(UID)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.app.__exit__(None, None, None)
        with contextlib.ExitStack() as stack:
            stack.callback(self.broker.stop)
            stack.callback(self.bridge.stop)
            stack.push(self.edge)
            # A card that is being opened waits for word of it, and the node for its card.
            pipe = self.edge.sarvis.process.stdin
            assert pipe is not None
            pipe.close()

    def play(self, programme: Programme, restarts: int, heard: Callable[[float], None]) -> None:
        """Let the node hear all of it, with `restarts` of the broker, evenly spread; `heard` gets the seconds."""
        self._silence_until_logged_in()
        ends = self.silent_frames + programme.frames
        card = threading.Thread(target=self._feed, args=(programme,), name="card", daemon=True)
        card.start()
        deaths = [ends * (number + 1) // (restarts + 1) for number in range(restarts)]
        while (frames := self._look()) < ends:
            heard((frames - self.silent_frames) * FRAME_S)
            if deaths and frames >= deaths[0]:
                deaths.pop(0)
                self.broker.kill()
                time.sleep(AWAY_S)
                self.broker.start()
            time.sleep(_LOOK_S)
        self._done = True
        card.join()
        heard(programme.minutes * 60.0)

    def _silence_until_logged_in(self) -> None:
        """In real time, so that the node has all of it before the programme begins."""
        pipe = self.edge.sarvis.process.stdin
        assert pipe is not None
        while not self.edge.said("logged_in") or self.silent_frames < 30:
            wire.write(pipe, "heard", np.zeros(FRAME_SAMPLES, np.int16))
            pipe.flush()
            self.silent_frames += 1
            time.sleep(FRAME_S)

    def _feed(self, programme: Programme) -> None:
        pipe = self.edge.sarvis.process.stdin
        assert pipe is not None
        for number in range(programme.minutes):
            wire.play(pipe, programme.minute(number), programme.mishap(number))
        # What is unfinished is finished by silence, and a microphone never stops.
        while not self._done:
            wire.write(pipe, "heard", np.zeros(FRAME_SAMPLES, np.int16))
            pipe.flush()
            time.sleep(FRAME_S / 10)

    def _look(self) -> int:
        """Frames scored so far."""
        folder = Path(f"/proc/{self.edge.sarvis.process.pid}")
        assert self.edge.sarvis.process.poll() is None, "\n".join(self.edge.sarvis.err)
        self.life.memory_mib.append(int((folder / "statm").read_text().split()[1]) * _PAGE / 2**20)
        self.life.files.append(len(list((folder / "fd").iterdir())))
        self.life.threads.append(len(list((folder / "task").iterdir())))
        with contextlib.suppress(httpx2.TransportError):
            self.life.numbers = self.edge.metrics()
        return int(self.life.numbers.get("sarvis_edge_frames_total", 0))

    def fates(self) -> dict[str, str]:
        """The last outcome of each wake, once all are known."""

        def told() -> dict[str, str]:
            return {line["id"]: line["status"] for line in self.edge.said("outcome")}

        def all_told() -> bool:
            wakes = {line["id"] for line in self.edge.said("wake")}
            return wakes <= told().keys() and "sent" not in told().values()

        with contextlib.suppress(AssertionError):
            wait_for("the fate of each wake", all_told)
        return told()

    def rung(self) -> list[str]:
        """The wakes that the app heard, one by one."""
        self.app.all_before()
        return [message["id"] for message in self.app.messages("voice_command")]

    def wakes(self) -> list[dict[str, Any]]:
        """As the node told them."""
        return self.edge.said("wake")
