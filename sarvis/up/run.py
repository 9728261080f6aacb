"""From start to Ctrl-C."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from edge_node.audio.soundfiles import read_wav
from infra.stopping import Stop
from infra.tasks import Tasks
from sarvis.up.folder import temporary_folder
from sarvis.up.house import House, Wanted, house
from sarvis.up.keys import keys
from sarvis.up.screen import Screen
from sarvis.up.voice import Voice

WAKE_KEY = "w"
LEAD_IN_S = 2.5
"""From log-in until an edge can hear a word: its engine scores the last 2 s."""


async def run(wanted: Wanted, word: Path, console: Console) -> None:
    """Serve until asked to end; raises ChildFailedError if a process ends before."""
    voice = Voice(read_wav(word).tobytes())
    screen = Screen(console)
    serving = asyncio.create_task(_serve(wanted, voice, screen), name="up")
    with Stop(on_asked=serving.cancel):
        try:
            await serving
        except asyncio.CancelledError:
            return


async def _serve(wanted: Wanted, voice: Voice, screen: Screen) -> None:
    screen.starting()
    with temporary_folder() as folder:
        async with house(wanted, folder) as running:
            await _follow(running, voice, screen)


async def _follow(running: House, voice: Voice, screen: Screen) -> None:
    now = asyncio.get_running_loop().time
    logged_in_at: float | None = None

    def happened(line: Mapping[str, Any]) -> None:
        nonlocal logged_in_at
        if line["event"] in {"logged_in", "logged_out"}:
            logged_in_at = now() if line["event"] == "logged_in" else None
        screen.event(line)

    def pressed(key: str) -> None:
        if key != WAKE_KEY or running.wanted.source is not None:
            return
        if logged_in_at is None:
            screen.waits(running.wanted.device_id)
        else:
            screen.spoken(begins=voice.say(max(logged_in_at + LEAD_IN_S - now(), 0.0)))

    async with Tasks() as tasks:
        if (microphone := running.edge.process.stdin) is not None:
            tasks.start(voice.speak(microphone), "voice")
        with keys(pressed):
            screen.ready(running)  # tells of the keys, so they work from then on
            await running.follow(happened)
