"""Measures how late the event loop is: work that holds it up delays every wake."""

from collections import deque

from prometheus_client import Gauge

from contract.clock import Clock
from infra.telemetry import REGISTRY

EVERY_S = 0.5
OVER_S = 60.0

LOOP_LAG = Gauge("sarvis_loop_lag_seconds", "How late the event loop was at most in the last minute", registry=REGISTRY)


class LoopLag:
    """The largest lag of the last minute, as a metric while `run` runs."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lags: deque[float] = deque(maxlen=round(OVER_S / EVERY_S))

    @property
    def seconds(self) -> float:
        """The largest of the last minute; 0 before anything was measured."""
        return max(self._lags, default=0.0)

    async def run(self) -> None:
        """Measure until cancelled."""
        LOOP_LAG.set_function(lambda: self.seconds)
        while True:
            before = self._clock.monotonic()
            await self._clock.sleep(EVERY_S)
            self._lags.append(max(self._clock.monotonic() - before - EVERY_S, 0.0))
