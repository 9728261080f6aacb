"""The command `sarvis fleet`."""

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from contract.clock import SystemClock
from contract.errors import SarvisError
from infra.settings.loader import load
from infra.telemetry import configure_logging
from sarvis.fleet.files import make_room
from sarvis.fleet.plan import Plan, members, tokens_of
from sarvis.fleet.report import complaint
from sarvis.fleet.run import Fleet
from sarvis.fleet.show import chosen

MAX_APPS = 8
"""A bridge closes a user's ninth socket, unless bridge.max_sockets_per_user has another value."""

app = typer.Typer(add_completion=False)


@app.command()
def fleet(
    *,
    devices: Annotated[int, typer.Option(min=1, max=100_000, help="how many devices; each claims its own user")] = 10,
    rate: Annotated[
        float, typer.Option(min=0, max=100_000, help="wakes per second over the whole fleet (Poisson)")
    ] = 1.0,
    run_s: Annotated[
        float | None,
        typer.Option("--for", min=0.1, help="for how many seconds wakes are made; by default until Ctrl-C"),
    ] = None,
    prefix: Annotated[str, typer.Option(help="names of devices and users: PREFIX-1, PREFIX-2, ...")] = "fleet",
    apps_per_user: Annotated[int, typer.Option(min=1, max=MAX_APPS, help="each user's apps")] = 1,
    connect_per_s: Annotated[float, typer.Option(min=0.1, help="how many devices start to connect per second")] = 100.0,
    give_up_s: Annotated[
        float, typer.Option(min=0.1, help="give up if no device has a session after this many seconds")
    ] = 15.0,
    seed: Annotated[int, typer.Option(help="the same seed gives the same intervals and devices")] = 1,
    mqtt_url: Annotated[
        str | None, typer.Option(help="the broker, mqtt://HOST:PORT; a cluster's nodes with commas")
    ] = None,
    url: Annotated[str | None, typer.Option(help="the bridge, ws://HOST:PORT or wss://HOST")] = None,
    ca_file: Annotated[Path | None, typer.Option(help="the authority that signed the bridge's certificate")] = None,
    kits: Annotated[
        Path | None, typer.Option(help="a folder of kits, one per device, as `sarvis device add --kit DIR/NAME` writes")
    ] = None,
    token_dir: Annotated[
        Path | None,
        typer.Option(
            help="a folder of the apps' tokens, USER.token; without it auth.key_file signs tokens if required"
        ),
    ] = None,
    state_dir: Annotated[
        Path | None, typer.Option(help="store the devices' state here, and do not remove it at the end")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="settings file instead of ./sarvis.toml")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object per second, and a final one")] = False,
) -> None:
    """Run many simulated devices and apps against a broker and a running bridge: for load, and to check that it works.

    Ends with 0 if each wake has an outcome and each acked one rang once, else with 1.
    """
    settings = load(config, mqtt__url=mqtt_url, app__url=url, app__ca_file=ca_file)
    # A log line for each of a thousand devices is useless; problems are counted.
    configure_logging(settings.log.model_copy(update={"level": "error"}), serves=True)
    make_room(devices, devices * apps_per_user)
    plan = Plan(rate, run_s, apps_per_user, connect_per_s, give_up_s, seed)
    with tempfile.TemporaryDirectory(prefix="sarvis-fleet-") as temporary:
        people = members(settings, prefix, devices, kits=kits, mqtt_url=mqtt_url)
        token = tokens_of(settings, token_dir, SystemClock())
        with chosen(sys.stdout, as_json=as_json) as shown:
            it = Fleet(
                plan, people, settings.app, token,
                state_dir=state_dir or Path(temporary), clock=SystemClock(), teller=shown,
            )  # fmt: skip
            told = asyncio.run(it.run())
            shown.summary(told)
    wrong = complaint(told.wakes.missing, told.wakes.made)
    if wrong is not None:
        raise SarvisError(wrong)
