"""`python -m tools.bench.without NAME bridge ...`: `sarvis` with an optimisation taken back that has no setting."""

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any, cast

import uvloop
from prometheus_client import Counter

import bridge.apps.protocol
import bridge.service
import bridge.wakes.relay
from bridge.wakes.delivery import Deliveries, Delivery, Event
from contract.clock import Stamps, iso
from contract.messages import Wake
from infra.telemetry import REGISTRY
from sarvis.cli import main


def asyncio_loop() -> None:
    """asyncio instead of uvloop."""
    cast("Any", uvloop).run = asyncio.run


def pydantic_wakes() -> None:
    """Wakes are read by pydantic alone."""
    cast("Any", bridge.service).decode_wake = Wake.decode


def json_frames() -> None:
    """What apps say is read by the standard library."""
    cast("Any", bridge.apps.protocol).decode = json.loads


def log_lines() -> None:
    """A line of the log for each change of a wake's fate."""
    move = Deliveries._move

    def told(self: Deliveries, fate: Delivery, event: Event, now: float) -> None:
        before = fate.latency_ms
        move(self, fate, event, now)
        if fate.latency_ms != before:  # it has another outcome; the end of an unconfirmed one is none
            bridge.wakes.relay.log.info(
                "wake", device_id=fate.device_id, uid=fate.wake.uid, outcome=fate.status, latency_ms=fate.latency_ms
            )

    cast("Any", Deliveries)._move = told


def stamps() -> None:
    """Each time stamp is made anew."""
    cast("Any", Stamps).now = lambda self: iso(self._clock.utc_now())


def counters() -> None:
    """Wakes are counted by the library's counters."""
    wakes = Counter("bench_wakes", "For the benchmark", ["status"], registry=REGISTRY)
    acked = Counter("bench_acked", "For the benchmark", registry=REGISTRY)

    class Counting(dict[str, int]):
        def __getitem__(self, _status: str) -> int:
            return 0

        def __setitem__(self, status: str, _count: int) -> None:
            (wakes.labels(status) if status else acked).inc()

    cast("Any", bridge.wakes.relay).WAKES = cast("Any", bridge.wakes.relay).ACKED = Counting()


TAKEN_BACK: dict[str, Callable[[], None]] = {
    function.__name__: function for function in (asyncio_loop, pydantic_wakes, json_frames, log_lines, stamps, counters)
}

if __name__ == "__main__":
    for name in sys.argv.pop(1).split(","):
        TAKEN_BACK[name]()
    main()
