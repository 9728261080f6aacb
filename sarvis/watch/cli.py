"""The command `sarvis watch`."""

import asyncio
import json
import sys
from collections.abc import Callable
from datetime import datetime
from typing import Annotated
from zlib import crc32

import typer

from broker.topic_filters import valid_filter
from contract.clock import SystemClock
from contract.errors import SettingsError
from infra import terminal
from infra.cli_output import Config
from infra.settings.loader import Settings, load
from infra.tasks import Tasks
from infra.telemetry import configure_logging
from sarvis.watch.observer import Dropped, Observer, check
from sarvis.watch.passing import Passing, head, to_json, told, whole_filter

COLOURS = ("cyan", "green", "yellow", "magenta", "blue", "bright_cyan", "bright_green", "bright_magenta")
HEAD_WIDTH = 28

Show = Callable[[Passing, datetime], None]
app = typer.Typer(add_completion=False)


@app.command()
def watch(
    topic_filter: Annotated[
        str | None,
        typer.Argument(
            metavar="FILTER",
            help="a device's id, an MQTT filter below mqtt.prefix such as devices/+/wake, or a whole one; else all",
        ),
    ] = None,
    *,
    count: Annotated[int | None, typer.Option(min=1, help="end after this many messages")] = None,
    mqtt_url: Annotated[
        str | None, typer.Option(help="the broker, mqtt://HOST:PORT; a cluster's nodes with commas")
    ] = None,
    config: Config = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object for each message")] = False,
) -> None:
    """Show messages as they pass the broker, decoded, until it is interrupted."""
    settings = load(config, mqtt__url=mqtt_url)
    # Of the connection it tells itself.
    configure_logging(settings.log.model_copy(update={"level": "error"}))
    wanted = whole_filter(settings.mqtt.prefix, topic_filter)
    if not valid_filter(wanted):
        raise SettingsError(f"{wanted!r} is no MQTT topic filter: # stands alone and last, + alone between slashes")
    check(settings)
    terminal.output_is_all()
    asyncio.run(_watch(settings, wanted, count, _json_line if as_json else _shown()))


async def _watch(settings: Settings, wanted: str, count: int | None, show: Show) -> None:
    clock = SystemClock()
    observer = Observer(settings.mqtt, wanted, clock, _say)
    async with Tasks() as tasks:
        tasks.start(observer.run(), "mqtt")
        await observer.ready()
        _say(f"watching {wanted} at {settings.mqtt.url}; Ctrl-C ends it")
        seen = 0
        while count is None or seen < count:
            each = await observer.next()
            if isinstance(each, Dropped):
                _say(f"{each} messages came too fast to be shown")
            else:
                show(each, clock.utc_now())
                seen += 1


def _say(words: str) -> None:
    typer.echo(f"watch: {words}", err=True)


def _json_line(it: Passing, at: datetime) -> None:
    typer.echo(json.dumps(to_json(it, at), ensure_ascii=False))


def _shown() -> Show:
    """In colours on a terminal, each device and bridge in its own."""
    if not sys.stdout.isatty():
        return lambda it, at: typer.echo(f"{_time(at)}  {head(it):<{HEAD_WIDTH}}  {told(it)}")
    from rich.console import Console  # noqa: PLC0415 - programs that read it need none
    from rich.text import Text  # noqa: PLC0415

    console = Console(soft_wrap=True, highlight=False)

    def show(it: Passing, at: datetime) -> None:
        colour = "dim" if it.owner is None else COLOURS[crc32(it.owner.encode()) % len(COLOURS)]
        style = "red" if it.problem is not None and it.row is not None else ""
        console.print(
            Text.assemble((_time(at), "dim"), "  ", (f"{head(it):<{HEAD_WIDTH}}", colour), "  ", (told(it), style))
        )

    return show


def _time(at: datetime) -> str:
    return at.astimezone().strftime("%H:%M:%S.%f")[:-3]
