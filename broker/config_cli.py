"""`sarvis broker config`: a broker with TLS and users, ready to run, and what to type next."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from broker import kit
from broker.configure import Made, Wish, configure
from contract.errors import SettingsError
from contract.settings import load

LAST_PORT = 65535
LOCAL_PORT = 1883
OPERATOR_PORT_AFTER = 100
"""So far behind the port for everybody is the operators' on Mosquitto, unless somebody says otherwise."""


class Product(StrEnum):
    """Brokers that can be configured."""

    mosquitto = "mosquitto"
    nats = "nats"
    embedded = "embedded"


def config(
    product: Annotated[Product, typer.Argument(help="which broker")],
    out: Annotated[Path, typer.Option(help="folder for all of it; again keeps users and keys")],
    host: Annotated[list[str], typer.Option(help="the broker's machine as its clients call it; first the usual name")],
    port: Annotated[int, typer.Option(min=1, max=65535, help="for clients with TLS")] = 8883,
    listen: Annotated[str, typer.Option(help="address to listen on")] = "0.0.0.0",
    certs: Annotated[
        Path | None, typer.Option(help="folder with ca.crt, and ca.key or server.crt and server.key; else made in OUT")
    ] = None,
    *,
    client_certificates: Annotated[
        bool, typer.Option("--client-certificates", help="every client needs a certificate; no passwords")
    ] = False,
    instance: Annotated[str, typer.Option(help="the bridge's name in topics")] = "bridge-1",
    operator_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="mosquitto: for operators with TLS, who may be there several times at once; 100 above --port unless "
            "you say another, 0 for none",
        ),
    ] = None,
    local_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="mosquitto: a door on loopback without TLS, for passwords; 1883 unless there are client certificates, "
            "0 for none",
        ),
    ] = None,
    settings: Annotated[Path | None, typer.Option("--config", help="settings file with mqtt.prefix")] = None,
) -> None:
    """Write a broker's configuration with TLS, the users of a bridge and an operator, and tell what to type next."""
    if local_port is None and product is Product.mosquitto and not client_certificates:
        local_port = LOCAL_PORT
    if operator_port is None and product is Product.mosquitto:
        operator_port = port + OPERATOR_PORT_AFTER
        if operator_port > LAST_PORT:
            raise SettingsError(f"there is no port {operator_port} for operators; name one with --operator-port, or 0")
    made = configure(
        Wish(
            kind=product.value,
            out=out,
            hosts=tuple(host),
            prefix=load(settings).mqtt.prefix,
            listen=listen,
            port=port,
            certs=certs,
            client_certificates=client_certificates,
            instance=instance,
            operator_port=operator_port or None,
            local_port=local_port or None,
        )
    )
    typer.echo("\n".join(_next(product.value, made, out)))


def _next(product: str, made: Made, out: Path) -> list[str]:
    start = {
        "mosquitto": f"mosquitto -c {made.config}",
        "nats": f"nats-server -c {made.config}",
        "embedded": f"sarvis broker --config {made.config}",
    }[product]
    bridge, key = made.bridge_kit / kit.SETTINGS, made.bridge_kit / kit.OPERATOR_KEY
    warning = [
        "",
        f"{out} belongs to root, so this broker runs as root. Better: give the folder to the broker's own user",
        "with chown -R, and run this command again.",
    ]  # fmt: skip
    lost = [
        f"the certificate is no longer made for {name}: whoever calls the broker so is told that the name is wrong"
        for name in made.lost_names
    ]
    return [
        *lost,
        f"{made.config} is written. Next:",
        "",
        f"  start the broker      {start}",
        f"  start the bridge      sarvis bridge --config {bridge}",
        f"  make your own key     sarvis token api me --role operator --out {key} --config {bridge}",
        f"  add a device          sarvis device add ID --kit ID --config {bridge}",
        f"  make an app's token   sarvis token app UID --config {bridge}",
        f"  watch as an operator  {kit.watch_command(made.operator_kit, made.description.prefix)}",
        *(warning if made.runs_as_root and product == "mosquitto" else []),
    ]
