"""Attack: clients that say a lot and read nothing, while a neighbour must get everything; memory is measured."""

import contextlib
import json
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

from hypothesis import strategies as st

from tests.support.waiting import PATIENCE_S, wait_for
from tests.support.world import HOST, EmbeddedBroker, unique
from tools.fuzz.house import House, Neighbour, Watch
from tools.fuzz.packets import Listener
from tools.fuzz.rawmqtt import PINGREQ, connect, publish, subscribe
from tools.fuzz.rawsocket import PING, TEXT, frame, handshake
from tools.fuzz.record import Budget, Result

BATCH = 10
SOCKETS = 4
SUBSCRIBERS = 2
MIB = 2**20
SENT_AT_MOST = {"heartbeats": MIB, "nonsense": MIB, "pings": 12 * MIB}
SENT_TO_BROKER_AT_MOST = 4 * MIB
STUCK_S = 0.2
ALLOWED_GROWTH_MIB = 24
"""Beyond what is promised for all of an attack's sockets together, for what an allocator keeps."""
PROMISED_MIB = {"bridge": SOCKETS * 64 / 1024, "broker": SUBSCRIBERS * 2 * 8}
"""64 KiB unsent for each socket of an app; 8 MiB, or twice that for answers, for each client of the broker."""


class Deaf:
    """A connection that only sends; what cannot be sent because the other side has stopped reading, is not."""

    def __init__(self, port: int, greeting: bytes, answer: bytes) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._socket.settimeout(PATIENCE_S)
        self._socket.connect((HOST, port))
        self._socket.sendall(greeting)
        assert self._socket.recv(len(answer)) == answer
        self._socket.settimeout(STUCK_S)
        self._rest = b""

    def say(self, block: bytes, at_most: int) -> bool:
        """Repeat a block up to this many bytes; False when the other side has hung up."""
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < at_most:
                try:
                    # Whole blocks only: half of one is sent on in the next round.
                    self._rest = self._rest or block
                    now = self._socket.send(self._rest)
                except ConnectionError:
                    return False
                self._rest = self._rest[now:]
                sent += now
        return True

    def close(self) -> None:
        """Leave at once."""
        self._socket.close()


def resident_mib(pid: int) -> float:
    """Memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmRSS")


class Memory:
    """Resident memory of a process: at first, at most, and how much more may be."""

    def __init__(self, who: str, pid: int) -> None:
        self._who = who
        self._pid = pid
        self._before = self._most = resident_mib(pid)
        self._reported = False

    def look(self, result: Result, given: object) -> None:
        """A finding when it is more than promised."""
        self._most = max(self._most, resident_mib(self._pid))
        growth = self._most - self._before
        if growth > PROMISED_MIB[self._who] + ALLOWED_GROWTH_MIB and not self._reported:
            self._reported = True
            result.found("broken", f"{self._who}: its memory grows with what one client does not read: {given}", given)

    def note(self) -> str:
        """For the record."""
        return f"{self._who}: {self._before:.0f} MiB before, {self._most:.0f} MiB at most"


APP_SAYS: dict[str, bytes] = {
    "heartbeats": frame(TEXT, b'{"type":"heartbeat","seq":1}') * 200,
    "nonsense": frame(TEXT, b"{") * 200,
    "pings": frame(PING, b"p" * 125) * 200,
}


def attack_bridge(
    house: House, budget: Budget, headers: Mapping[str, str] | None = None, *, skip: frozenset[str] = frozenset()
) -> Result:
    """Apps that read nothing are woken, beat, ping and talk nonsense; all at once.

    `skip` names things that they leave out.
    """
    result = Result("slow apps")
    uid = unique("deaf")
    watch, memory = house.watched(), Memory("bridge", house.bridge.sarvis.process.pid)
    greeting = handshake(f"/ws/app/{uid}/", {"Sec-WebSocket-Protocol": "sarvis.v2", **(headers or {})})

    def come() -> Deaf:
        return Deaf(house.bridge.port, greeting, b"HTTP/1.1 101")

    def wake() -> None:
        body = {"uid": uid, "command": "🔔" * 1000, "timestamp": "now"}
        answer = house.bridge.http.post(
            f"{house.bridge.url}/api/voice-command/trigger", content=json.dumps(body), headers=dict(headers or {})
        )
        if answer.status_code >= 500:
            result.found("server_error", f"trigger: {answer.status_code}", body)

    with Neighbour(house.bridge, house.broker) as neighbour:
        neighbour.settle(result)
        before = house.bridge.metric("sarvis_app_connections")
        deaf = [come() for _ in range(SOCKETS)]
        actions = sorted({"wakes", *APP_SAYS} - skip)
        try:
            for batch in budget.batches(st.sampled_from(actions), BATCH):
                for action in batch:
                    result.inputs += 1
                    if action == "wakes":
                        for _ in range(20):
                            wake()
                    else:
                        deaf = [
                            one if one.say(APP_SAYS[action], SENT_AT_MOST[action]) else _again(one, come)
                            for one in deaf
                        ]
                    memory.look(result, action)
                if not (neighbour.settle(result, batch) and watch.look(result, batch)):
                    return result
        finally:
            for one in deaf:
                one.close()
        wait_for("the deaf are gone", lambda: house.bridge.metric("sarvis_app_connections") == before)
        neighbour.settle(result)
        result.notes += [memory.note(), neighbour.note()]
    watch.look(result, "the end")
    return result


def _again(gone: Deaf, come: Callable[[], Deaf]) -> Deaf:
    gone.close()
    return come()


BROKER_SAYS: dict[str, bytes] = {
    "pings": PINGREQ * 2000,
    "publishes": publish(b"deaf/t", b"x" * 8000, qos=1, packet_id=7) * 10,
    "subscribes": subscribe(b"deaf/#", qos=1, packet_id=9) * 200,
}


def attack_broker(broker: EmbeddedBroker, budget: Budget) -> Result:
    """Subscribers that read nothing, while they and others publish what they would have to read."""
    result = Result("slow subscribers")
    assert broker._sarvis is not None
    watch, memory = Watch({"broker": broker._sarvis}), Memory("broker", broker._sarvis.process.pid)

    def come(qos: int = 1) -> Deaf:
        greeting = connect(unique("deaf").encode(), keepalive=0) + subscribe(b"deaf/#", qos=qos)
        return Deaf(broker.port, greeting, b"\x20\x02\x00\x00")

    with Listener(broker.port) as listener:
        deaf = [come(number % 2) for number in range(SUBSCRIBERS)]
        try:
            for batch in budget.batches(st.sampled_from(sorted(BROKER_SAYS)), BATCH):
                for action in batch:
                    result.inputs += 1
                    deaf = [
                        one if one.say(BROKER_SAYS[action], SENT_TO_BROKER_AT_MOST) else _again(one, come)
                        for one in deaf
                    ]
                    memory.look(result, action)
                if not (listener.settle(result, batch) and watch.look(result, batch)):
                    return result
        finally:
            for one in deaf:
                one.close()
        listener.settle(result, "the end")
        result.notes += [memory.note(), f"a listener heard {listener.heard} messages, all in order"]
    watch.look(result, "the end")
    return result
