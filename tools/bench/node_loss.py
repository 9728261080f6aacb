"""How long clients of a NATS cluster are away when their node dies: `python -m tools.bench.node_loss [--rounds 3]`.

In each round three new servers and six sessions of infra.mqtt.session; those that were at the killed node are timed
until all their subscriptions are confirmed elsewhere. By turns with the product's wait for an answer, and with
the one that a session with a single address has.
"""

import argparse
import asyncio
import json
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

from contract.clock import SystemClock
from contract.topics import ACK, DEVICE_STATUS, HELLO, LOGIN, LOGOUT, OUTCOME, WAKE
from infra.mqtt import pacing
from infra.mqtt.session import MqttSession, Subscription
from infra.settings.broker import MqttSettings
from tests.support.clusters import NatsNode, open_cluster
from tests.support.waiting import wait_until

DEVICES = 5
BACK_WITHIN_S = 120.0
SETTLES_S = 3.0
WAITS_S = {"product": pacing.ANSWER_OF_A_CLUSTER_S, "as with one address": pacing.ANSWER_TIMEOUT_S}


def session(url: str, owner: str, wishes: list[Subscription]) -> MqttSession:
    """A session that hears what it wishes and says nothing."""
    return MqttSession(
        MqttSettings(url=url),
        f"sarvis-{owner}",
        SystemClock(),
        subscriptions=wishes,
        on_message=lambda incoming: incoming.ack(),
        last_will=None,
    )


async def away_s(folder: Path) -> dict[str, float]:
    """Seconds from the death of a node to the return of each of its clients, by name."""
    with open_cluster(folder) as cluster:
        all_ = [Subscription(topic) for topic in (WAKE, HELLO, ACK, DEVICE_STATUS)]
        sessions = {"bridge": session(cluster.url, "bridge", all_)}
        for number in range(DEVICES):
            own = f"device-{number}"
            sessions[own] = session(cluster.url, own, [Subscription(topic, own) for topic in (LOGIN, LOGOUT, OUTCOME)])
        async with AsyncExitStack() as stack:
            for one in sessions.values():
                task = asyncio.create_task(one.run())
                stack.push_async_callback(_end, task)
            await wait_until("all are there", lambda: all(one.connected for one in sessions.values()), BACK_WITHIN_S)
            await asyncio.sleep(SETTLES_S)
            victim = _node_of(cluster.nodes, sessions["bridge"])
            hit = {name: one for name, one in sessions.items() if one.node.port == victim.port}
            began = time.monotonic()
            victim.kill()
            await wait_until("the loss is seen", lambda: not any(one.connected for one in hit.values()))
            back: dict[str, float] = {}

            def all_back() -> bool:
                for name, one in hit.items():
                    if one.connected:
                        back.setdefault(name, time.monotonic() - began)
                return len(back) == len(hit)

            await wait_until("all are back", all_back, BACK_WITHIN_S)
    return back


def _node_of(nodes: list[NatsNode], of: MqttSession) -> NatsNode:
    return next(node for node in nodes if node.port == of.node.port)


async def _end(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def main() -> None:
    """Print one JSON line for each round and way."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    for number in range(parser.parse_args().rounds):
        for way, seconds in WAITS_S.items():
            pacing.ANSWER_OF_A_CLUSTER_S = seconds
            with tempfile.TemporaryDirectory() as folder:
                back = asyncio.run(away_s(Path(folder)))
            away = {name: round(each, 1) for name, each in sorted(back.items())}
            print(json.dumps({"round": number + 1, "answer": way, "away_s": away}), flush=True)


if __name__ == "__main__":
    main()
