"""`sarvis broker`: the embedded broker as a command."""

import asyncio
import signal
from pathlib import Path
from typing import Annotated

import typer

from broker.access import Access, OpenAccess
from broker.check.cli import check as check_broker
from broker.config_cli import config as write_config
from broker.embedded import EmbeddedBroker
from broker.file_access import FileAccess
from broker.store import NAME
from broker.tls import ServerTls
from contract import expiry
from contract.clock import SystemClock
from contract.errors import StartError
from contract.expiry import Ending
from contract.places import kept_at_home
from contract.sections.base import is_loopback
from contract.sections.broker import BrokerSettings
from contract.settings import Settings, load
from contract.telemetry import configure_logging, get_logger

app = typer.Typer(add_completion=False)
app.command("config")(write_config)
app.command("check")(check_broker)

log = get_logger("broker")


@app.callback(invoke_without_command=True)
def broker(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="address to listen on; beyond this machine users are needed")] = None,
    port: Annotated[int | None, typer.Option(help="port to listen on; 0 takes a free one")] = None,
    config: Annotated[Path | None, typer.Option(help="settings file instead of ./sarvis.toml")] = None,
) -> None:
    """Run the embedded MQTT broker until it is interrupted; retained messages and persistent sessions are kept."""
    if context.invoked_subcommand is None:
        settings = load(config, broker__host=host, broker__port=port)
        configure_logging(settings.log)
        asyncio.run(serve(settings))


async def serve(settings: Settings) -> None:
    """Run a broker until SIGINT or SIGTERM; says on stdout when it is ready, raises StartError when it cannot be."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    tls = _tls(settings.broker)
    access = _access(settings)
    if settings.auth.mode == "required" and tls is None and not is_loopback(settings.broker.host):
        log.warning("passwords_unencrypted", host=settings.broker.host, advice="set broker.tls_cert and broker.tls_key")
    store = kept_at_home(settings.broker.dir, "broker.dir") / NAME if settings.broker.persistence else None
    async with EmbeddedBroker(
        settings.broker.host, settings.broker.port, access=access, tls=tls, store=store
    ) as running:
        print(f"broker listening on {running.url}", flush=True)  # scripts wait for this line
        watching = asyncio.create_task(expiry.watch(lambda: _endings(settings.broker), SystemClock()), name="expiry")
        await stop.wait()
        watching.cancel()


async def _endings(broker: BrokerSettings) -> list[Ending]:
    return expiry.of_certificates({"broker.tls_cert": broker.tls_cert}, {"broker.tls_client_ca": broker.tls_client_ca})


def _access(settings: Settings) -> Access:
    if settings.auth.mode == "required":
        return FileAccess(settings.broker.dir, settings.mqtt.prefix)
    if not is_loopback(settings.broker.host):
        raise StartError(
            f"without users everybody who reaches {settings.broker.host} could command every device, so a broker with "
            "auth.mode = open listens only on 127.0.0.1; make one with users and TLS with "
            "sarvis broker config embedded --out FOLDER --host NAME (it sets auth.mode = required)"
        )
    return OpenAccess()


def _tls(broker: BrokerSettings) -> ServerTls | None:
    if broker.tls_cert is None or broker.tls_key is None:
        return None
    return ServerTls(broker.tls_cert, broker.tls_key, broker.tls_client_ca)
