"""`python -m tools.soak.node`: `sarvis edge`, but its sound card reads standard input and waits when it is ahead."""

import asyncio
import os
import sys
import threading
import time
from pathlib import Path
from typing import BinaryIO

from contract.errors import StartError
from edge_node.audio.capture import Capture
from edge_node.audio.format import SAMPLE_RATE_HZ
from edge_node.audio.ring import Ring
from edge_node.audio.sources import AudioSource, SourceOptions
from edge_node.display.events import Events
from edge_node.serve import serve
from infra.settings.loader import load
from infra.telemetry import configure_logging
from tools.soak import wire

_AHEAD = 20
"""Pieces that may wait in the ring before the card waits, too."""
_STARVED_S = 600.0
"""The process that plays the sound may be starved for as long: silence alone is no loss here, the pipe says what is."""


class Card:
    """A sound card on a pipe; `open` gives a recorder, or a refusal, as the pipe says."""

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe = pipe
        self._known = True

    def open(self, ring: Ring) -> "Recording":
        """As `edge_node.capture.Open`."""
        if not self._known:
            told = wire.read(self._pipe)
            if told is None or told[0] != "there":
                raise StartError("the card is not there")
        self._known = False
        return Recording(self._pipe, ring)


class Recording:
    """A `Recorder`: until the pipe says that the card is gone."""

    rate_hz = SAMPLE_RATE_HZ

    def __init__(self, pipe: BinaryIO, ring: Ring) -> None:
        self._pipe = pipe
        self._ring = ring
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="card", daemon=True)
        self._thread.start()

    def alive(self) -> bool:
        """See `Recorder`."""
        return self._thread.is_alive()

    def close(self) -> None:
        """See `Recorder`."""
        self._closed = True

    def _run(self) -> None:
        while (told := wire.read(self._pipe)) is not None and told[0] == "heard":
            while len(self._ring) > _AHEAD and not self._closed:
                time.sleep(0.0005)
            if self._closed:
                return
            self._ring.put(told[1], lost=told[2])


def open_card(_name: str, options: SourceOptions) -> AudioSource:
    """As `edge_node.audio.open_source`."""
    # Not sys.stdin: at its end Python waits for the thread that reads from it.
    card = Card(os.fdopen(os.dup(0), "rb"))
    block_s = wire.BLOCK / SAMPLE_RATE_HZ
    return Capture(
        card.open, block_s=block_s, on_change=options.on_change, stall_s=_STARVED_S, return_s=options.return_s
    )


def main() -> None:
    """Live until SIGTERM."""
    settings = load(Path("soak.toml"))
    configure_logging(settings.log)
    assert settings.edge.device_id is not None
    events = Events(sys.stdout, as_json=True)
    asyncio.run(serve(settings, settings.edge.device_id, events, open_source=open_card))


if __name__ == "__main__":
    main()
