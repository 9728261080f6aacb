"""The command `sarvis app`."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from app_sim.client import AppClient
from app_sim.terminal import Terminal, listen, obey
from contract.clock import SystemClock
from contract.errors import SettingsError
from infra import terminal
from infra.secrets import secret_of
from infra.settings import loader as configuration
from infra.settings.app import AppSettings
from infra.stopping import Stop
from infra.telemetry import configure_logging

app = typer.Typer(help="The app in a terminal.", add_completion=False)

_STOPPED_FOR_GOOD = 1


@app.callback(invoke_without_command=True)
def main(
    uid: Annotated[str | None, typer.Option(help="The user of this app (connection_uuid).")] = None,
    url: Annotated[str | None, typer.Option(help="The bridge, as ws://HOST:PORT or wss://HOST.")] = None,
    legacy: Annotated[bool, typer.Option("--legacy", help="Behave exactly as the first guide's app.")] = False,
    client: Annotated[str | None, typer.Option(help="The same name again replaces the older socket.")] = None,
    token_file: Annotated[Path | None, typer.Option(help="The file with this user's token.")] = None,
    ca_file: Annotated[Path | None, typer.Option(help="The authority that signed the server's certificate.")] = None,
    heartbeat_interval_s: Annotated[
        float | None, typer.Option(help="Heartbeat interval, instead of the server's.")
    ] = None,
    login: Annotated[str | None, typer.Option(metavar="DEVICE_ID", help="Log in there once connected.")] = None,
    config: Annotated[Path | None, typer.Option(help="The settings file instead of sarvis.toml.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per event and line.")] = False,
) -> None:
    """Run a user's app: stay connected, send heartbeats, ring. Type login DEVICE, logout or quit."""
    settings = configuration.load(
        config,
        app__uid=uid,
        app__url=url,
        app__client=client,
        app__token_file=token_file,
        app__ca_file=ca_file,
        app__heartbeat_interval_s=heartbeat_interval_s,
    )
    configure_logging(settings.log, serves=True)
    terminal.output_is_all()
    raise typer.Exit(asyncio.run(live(settings.app, legacy=legacy, login=login, as_json=as_json)))


async def live(settings: AppSettings, *, legacy: bool, login: str | None, as_json: bool) -> int:
    """Run the app until the user quits (0), logs out with this app (0) or is refused permanently (1)."""
    if settings.uid is None:
        raise SettingsError("setting app.uid is missing; give --uid UID")

    def leave() -> None:
        life.cancel()

    shown = Terminal(as_json=as_json, on_gone=leave)
    client = AppClient(
        settings.url,
        settings.uid,
        legacy=legacy,
        client=settings.client,
        token=lambda: secret_of(settings.token, settings.token_file, "app.token_file", "token"),
        ca_file=settings.ca_file,
        heartbeat_interval_s=settings.heartbeat_interval_s,
        reconnect_max_s=settings.reconnect_max_s,
        on_event=shown.show,
        clock=SystemClock(),
    )
    if login is not None:
        client.login(login)
    loop = asyncio.get_running_loop()
    life = asyncio.create_task(client.run(), name="app")
    with Stop(on_asked=leave) as stop:
        if stop.asked.is_set():
            leave()
        listen(loop, lambda line: obey(line, client, leave))
        await asyncio.wait([life])
    if life.cancelled():
        return 0
    return 0 if life.result().wanted else _STOPPED_FOR_GOOD
