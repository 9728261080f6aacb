"""What one device that floods does to another's wake: `python -m tools.bench.flood [--json]`.

The flooder is a process of its own that says wakes or hellos on a raw socket as fast as the broker takes them. The
honest device publishes a wake, again every 2 s until its app has it, as a real one does; the time runs from its first
publication to the app's socket.
"""

import argparse
import json
import math
import multiprocessing
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from tests.support.world import BROKERS, HOST, PREFIX, Bridge, Mqtt, unique
from tools.fuzz.rawmqtt import RawClient, publish

AGAIN_S = 2.0
GIVEN_UP_S = 30.0
BETWEEN_S = 0.02
BLOCK = 50
FLOODS: tuple[tuple[str, int], ...] = (("wake", 0), ("wake", 1), ("hello", 0), ("hello", 1))


def main() -> None:
    """Measure every broker, first in peace, then under each flood."""
    parser = argparse.ArgumentParser(prog="python -m tools.bench.flood", description=__doc__)
    parser.add_argument("--broker", choices=[*BROKERS, "both"], default="both")
    parser.add_argument("--wakes", type=int, default=100, help="of the honest device in each measurement")
    parser.add_argument("--seconds", type=float, default=20.0, help="at most, for each measurement")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    arguments = parser.parse_args()
    for kind in BROKERS if arguments.broker == "both" else [arguments.broker]:
        for row in measure(kind, arguments.wakes, arguments.seconds):
            print(json.dumps(row) if arguments.json else _line(row), flush=True)


def measure(
    kind: str, wakes: int, at_most_s: float, floods: Sequence[tuple[str, int] | None] = (None, *FLOODS)
) -> Iterator[dict[str, Any]]:
    """A row for peace and for each flood; each with a bridge of its own, so that no flood slows the next one down."""
    for flood in floods:
        with tempfile.TemporaryDirectory(prefix="flood-") as folder, _running(Path(folder), kind) as (port, bridge):
            yield {"broker": kind, **_measure(port, bridge, flood, wakes, at_most_s)}


@contextmanager
def _running(folder: Path, kind: str) -> Iterator[tuple[int, Bridge]]:
    with BROKERS[kind](folder) as broker, Bridge(folder, broker.url) as bridge:
        yield broker.port, bridge


def _measure(port: int, bridge: Bridge, flood: tuple[str, int] | None, wakes: int, at_most_s: float) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    ending, said = context.Event(), context.Value("Q", 0)
    flooder = context.Process(target=_flood, args=(port, flood, ending, said), daemon=True) if flood else None
    with _Honest(port, bridge.port) as honest:
        honest.wake()
        if flooder is not None:
            flooder.start()
            while said.value < BLOCK * 20:
                assert flooder.is_alive(), "the flooder has ended"
                time.sleep(0.05)
        began, said_before = time.monotonic(), said.value
        taken: list[float] = []
        while len(taken) < wakes and time.monotonic() - began < at_most_s:
            taken.append(honest.wake())
            time.sleep(BETWEEN_S)
        rate = (said.value - said_before) / (time.monotonic() - began)
        if flooder is not None:
            ending.set()
            flooder.join(10)
            flooder.kill()
            flooder.join()
        return {
            "flood": "none" if flood is None else f"{flood[0]} QoS {flood[1]}",
            "flood_per_s": round(rate),
            "wakes": len(taken),
            "said_again": honest.again,
            "lost": sum(math.isinf(latency) for latency in taken),
            **{name: round(_quantile(taken, part) * 1000, 1) for name, part in QUANTILES.items()},
        }


QUANTILES = {"p50_ms": 0.5, "p95_ms": 0.95, "max_ms": 1.0}


def _quantile(values: list[float], part: float) -> float:
    ordered = [min(value, GIVEN_UP_S) for value in sorted(values)]
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)]


def _line(row: dict[str, Any]) -> str:
    return (
        f"{row['broker']:9} flood {row['flood']:11} {row['flood_per_s']:>7,}/s: {row['wakes']:3} wakes, "
        f"{row['lost']} lost, {row['said_again']} said again; "
        f"p50 {row['p50_ms']} ms, p95 {row['p95_ms']} ms, max {row['max_ms']} ms"
    )


class _Honest:
    """A device and its user's app; the app's thread notes when each wake came."""

    def __init__(self, mqtt_port: int, bridge_port: int) -> None:
        self.again = 0
        self._uid = unique("user")
        self._mqtt = Mqtt(mqtt_port, f"{PREFIX}/devices/{unique('honest')}")
        self._came: dict[str, float] = {}
        self._news = threading.Condition()
        self._socket = connect(
            f"ws://{HOST}:{bridge_port}/ws/app/{self._uid}/",
            subprotocols=[Subprotocol("sarvis.v2")],
            compression=None,
            proxy=None,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        assert json.loads(self._socket.recv())["type"] == "connection_established"
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._reader.join()
        self._mqtt.__exit__(None, None, None)

    def wake(self) -> float:
        """Seconds from the first publication to the app; infinite when it was given up."""
        wake_id = unique("wake")
        wake = json.dumps({"uid": self._uid, "command": "wake_up", "timestamp": "then", "id": wake_id})
        began = time.perf_counter()
        while time.perf_counter() - began < GIVEN_UP_S:
            self._mqtt.paho.publish(f"{self._mqtt.prefix}/wake", wake, 1)
            with self._news:
                if self._news.wait_for(lambda: wake_id in self._came, AGAIN_S):
                    return self._came.pop(wake_id) - began
            self.again += 1
        return math.inf

    def _read(self) -> None:
        try:
            while True:
                message = json.loads(self._socket.recv())
                now = time.perf_counter()
                if message["type"] == "voice_command":
                    self._socket.send(json.dumps({"type": "ack", "id": message["id"]}))
                    with self._news:
                        self._came.setdefault(message["id"], now)
                        self._news.notify_all()
        except ConnectionClosed:
            return


def _flood(port: int, flood: tuple[str, int], ending: Event, said: "Synchronized[int]") -> None:
    """Publish until told to end; PUBACKs are read and thrown away by a thread. Comes again when it is hung up on."""
    kind, qos = flood
    device = unique("flooder")
    topic = f"{PREFIX}/devices/{device}/{kind}".encode()
    number = 0
    while not ending.is_set():
        with RawClient(port, f"sarvis-{device}".encode()) as client:
            threading.Thread(target=_drain, args=(client,), daemon=True).start()
            while not ending.is_set():
                block = b""
                for _ in range(BLOCK):
                    number += 1
                    block += publish(topic, _payload(kind, number), qos=qos, packet_id=number % 60_000 + 1)
                if not client.say(block):
                    break
                with said.get_lock():
                    said.value += BLOCK


def _drain(client: RawClient) -> None:
    try:
        while client.next_packet():
            pass
    except OSError:
        return


def _payload(kind: str, number: int) -> bytes:
    one = uuid4().hex
    if kind == "wake":
        return f'{{"uid":"nobody","command":"wake_up","timestamp":"then","id":"{one}"}}'.encode()
    return f'{{"install_id":"i","boot":1,"seq":{number},"nonce":"{one}"}}'.encode()


if __name__ == "__main__":
    main()
