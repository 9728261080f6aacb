"""`sarvis broker`: the embedded broker as a command."""

import asyncio
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from broker.access.file_auth import FileAccess
from broker.check.cli import check as check_broker
from broker.provisioning import relocation
from broker.provisioning.config_cli import config as write_config
from broker.provisioning.config_cli import relocate
from broker.server.auth import Authorizer, OpenAuthorizer
from broker.server.embedded import EmbeddedBroker
from broker.server.store import NAME
from broker.server.tls import ServerTls
from contract.clock import SystemClock
from contract.errors import StartError
from infra import expiry
from infra.expiry import Ending
from infra.places import kept_at_home
from infra.settings.base import is_loopback
from infra.settings.broker import BrokerSettings
from infra.settings.loader import Settings, load
from infra.stopping import Stop
from infra.tasks import Tasks
from infra.telemetry import configure_logging, get_logger, tell_of_process

app = typer.Typer(add_completion=False)
app.command("config")(write_config)
app.command("check")(check_broker)
app.command("relocate")(relocate)

log = get_logger("broker")


@app.callback(invoke_without_command=True)
def broker(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="address to listen on; beyond this machine users are needed")] = None,
    port: Annotated[int | None, typer.Option(help="port to listen on; 0 chooses a free one")] = None,
    config: Annotated[Path | None, typer.Option(help="settings file instead of ./sarvis.toml")] = None,
) -> None:
    """Run the embedded MQTT broker until it is interrupted; retained messages and persistent sessions are kept."""
    if context.invoked_subcommand is None:
        settings = load(config, broker__host=host, broker__port=port)
        configure_logging(settings.log, serves=True)
        tell_of_process("broker", version("sarvis"))
        asyncio.run(serve(settings))


async def serve(settings: Settings) -> None:
    """Run a broker until it is asked to end; prints a line when it is ready, raises StartError if it cannot start."""
    with Stop(reload=dict) as stop:
        await _serve(settings, stop)


async def _serve(settings: Settings, stop: Stop) -> None:
    tls = _tls(settings.broker)
    access = _access(settings)
    if settings.auth.mode == "required" and tls is None and not is_loopback(settings.broker.host):
        log.warning("passwords_unencrypted", host=settings.broker.host, advice="set broker.tls_cert and broker.tls_key")
    store = kept_at_home(settings.broker.dir, "broker.dir") / NAME if settings.broker.persistence else None
    async with EmbeddedBroker(
        settings.broker.host, settings.broker.port, access=access, tls=tls, store=store
    ) as running:
        stop.reload = lambda: _read_again(tls, access)
        async with Tasks() as tasks:
            tasks.start(running.watch(), "store")
            tasks.start(expiry.watch(lambda: _endings(settings.broker), SystemClock()), "expiry")
            _serve_metrics(settings.broker, tasks)
            print(f"broker listening on {running.url}", flush=True)  # scripts wait for this line
            await stop.asked.wait()


def _serve_metrics(broker: BrokerSettings, tasks: Tasks) -> None:
    """Serve them if there is a port for it; raises StartError."""
    if broker.http_port is None:
        return
    # Only a broker that is scraped needs an HTTP server.
    from infra.web.exposition import serve_metrics  # noqa: PLC0415
    from infra.web.server import address, listen  # noqa: PLC0415

    listening = listen("the broker's metrics", broker.http_host, broker.http_port, option="broker.http_port")
    tasks.start(serve_metrics(listening), "metrics")
    print(f"broker metrics at http://{address(listening)}/metrics", flush=True)


def _read_again(tls: ServerTls | None, access: Authorizer) -> dict[str, str]:
    """Reload now the files that are otherwise checked once a second and at each connection; logs what was read."""
    told = {}
    if isinstance(access, FileAccess):
        access.refresh()
        told["users"] = "read"
    if tls is not None:
        told["certificate"] = "renewed" if tls.refresh() else "as before"
    return told


async def _endings(broker: BrokerSettings) -> list[Ending]:
    return expiry.of_certificates({"broker.tls_cert": broker.tls_cert}, {"broker.tls_client_ca": broker.tls_client_ca})


def _access(settings: Settings) -> Authorizer:
    if settings.auth.mode == "required":
        return FileAccess(settings.broker.dir, settings.mqtt.prefix)
    if not is_loopback(settings.broker.host):
        raise StartError(
            f"without users every client that reaches {settings.broker.host} could command every device, so a broker "
            f"with "
            "auth.mode = open listens only on 127.0.0.1; create one with users and TLS with "
            "sarvis broker config embedded --out FOLDER --host NAME (it sets auth.mode = required)"
        )
    return OpenAuthorizer()


def _tls(broker: BrokerSettings) -> ServerTls | None:
    if broker.tls_cert is None or broker.tls_key is None:
        return None
    moved = relocation.problem(kept_at_home(broker.dir, "broker.dir"))
    if moved is not None:
        raise StartError(moved)
    return ServerTls(broker.tls_cert, broker.tls_key, broker.tls_client_ca)
