"""The command `sarvis top`."""

import asyncio
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live

from bridge.operator.client import NoBridgeError, NotFoundError, Watcher, where
from contract.clock import Clock, SystemClock
from contract.errors import SarvisError, SettingsError
from infra.cli_output import Config, say_json
from infra.redaction import shown_url
from infra.settings.loader import Settings, load
from infra.stopping import Stop
from infra.telemetry import configure_logging
from sarvis.top.sample import Sample, figures, to_json, wakes
from sarvis.top.screen import away, screen
from sarvis.up.keys import keys

QUIT_KEY = "q"

app = typer.Typer(add_completion=False)


@app.command()
def top(
    *,
    url: Annotated[str | None, typer.Option(help="the bridge, http://HOST:PORT or https://HOST")] = None,
    every_s: Annotated[float, typer.Option("--every", min=0.2, max=3600, help="seconds between two looks")] = 2.0,
    config: Config = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON document, and end")] = False,
) -> None:
    """Show the fleet and the running bridge on one live screen; needs the key of an operator or a viewer."""
    settings = load(config, operator__url=url)
    configure_logging(settings.log)
    if not as_json and not sys.stdout.isatty():
        raise SettingsError("top needs a terminal; --json prints one document")
    if as_json:
        say_json(asyncio.run(_once(settings)))
    else:
        asyncio.run(_live(settings, every_s))


async def _once(settings: Settings) -> dict[str, object]:
    async with Watcher(settings) as bridge:
        return to_json(await _look(bridge, SystemClock()), shown_url(where(settings)))


async def _live(settings: Settings, every_s: float) -> None:
    showing = asyncio.create_task(_show(settings, every_s, SystemClock()), name="top")

    def pressed(key: str) -> None:
        if key == QUIT_KEY:
            showing.cancel()

    with Stop(on_asked=showing.cancel), keys(pressed):
        try:
            await showing
        except asyncio.CancelledError:
            return


async def _show(settings: Settings, every_s: float, clock: Clock) -> None:
    url = shown_url(where(settings))
    before: Sample | None = None
    with Live(console=Console(), auto_refresh=False, screen=True) as live:
        async with Watcher(settings) as bridge:
            while True:
                try:
                    now = await _look(bridge, clock)
                except NoBridgeError as error:
                    before = None
                    live.update(away(url, str(error)), refresh=True)
                else:
                    live.update(screen(url, now, before), refresh=True)
                    before = now
                await clock.sleep(every_s)


async def _look(bridge: Watcher, clock: Clock) -> Sample:
    """Raises NoBridgeError if it does not answer, SarvisError if it refuses the key."""
    try:
        told = figures(await bridge.text("/metrics"))
    except ValueError:
        raise SarvisError(
            "what answers there is no bridge: check operator.url, or bridge.host and bridge.port"
        ) from None
    try:
        newest = wakes((await bridge.json("/api/ops/wakes"))["rows"])
    except NotFoundError:
        newest = None
    return Sample(clock.monotonic(), await bridge.problem(), told, newest)
