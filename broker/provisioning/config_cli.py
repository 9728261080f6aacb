"""`sarvis broker config`: writes a broker's folder, and prints the next commands."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from broker.provisioning import kit, relocation
from broker.provisioning.configure import ConfigRequest, Made, configure
from broker.provisioning.plan import ROUTE_PORT
from contract.errors import SettingsError
from infra.settings.loader import load

LAST_PORT = 65535
LOCAL_PORT = 1883
OPERATOR_PORT_AFTER = 100
"""The default distance of Mosquitto's operator port from the port for all clients."""


class Product(StrEnum):
    """Brokers that can be configured."""

    mosquitto = "mosquitto"
    nats = "nats"
    embedded = "embedded"


def config(
    product: Annotated[Product, typer.Argument(help="which broker")],
    out: Annotated[Path, typer.Option(help="folder for all files; a repeated run keeps users and keys")],
    host: Annotated[
        list[str],
        typer.Option(
            help="a name by which clients connect to the broker's machine; the usual name first; with --cluster the "
            "machine of each node"
        ),
    ],
    port: Annotated[int, typer.Option(min=1, max=65535, help="for clients with TLS")] = 8883,
    listen: Annotated[str, typer.Option(help="address to listen on")] = "0.0.0.0",
    certs: Annotated[
        Path | None,
        typer.Option(help="folder with ca.crt, and ca.key or server.crt and server.key; otherwise created in OUT"),
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
            help="mosquitto: port with TLS for operators, who may connect several times at once; default: --port plus "
            "100, 0 for none",
        ),
    ] = None,
    local_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="mosquitto: port on loopback without TLS, for passwords; default: 1883 unless there are client "
            "certificates, 0 for none",
        ),
    ] = None,
    cluster: Annotated[
        int | None,
        typer.Option(min=3, max=9, help="nats: write this many configurations, the nodes of one cluster"),
    ] = None,
    route_port: Annotated[
        int, typer.Option(min=1, max=65535, help="with --cluster: where the nodes listen for each other")
    ] = ROUTE_PORT,
    replace: Annotated[
        bool, typer.Option("--replace", help="other programs' files in OUT are renamed, not deleted")
    ] = False,
    settings: Annotated[Path | None, typer.Option("--config", help="settings file with mqtt.prefix")] = None,
) -> None:
    """Write a broker's configuration with TLS, the users of a bridge and an operator, and print the next commands."""
    if local_port is None and product is Product.mosquitto and not client_certificates:
        local_port = LOCAL_PORT
    if operator_port is None and product is Product.mosquitto:
        operator_port = port + OPERATOR_PORT_AFTER
        if operator_port > LAST_PORT:
            raise SettingsError(f"there is no port {operator_port} for operators; name one with --operator-port, or 0")
    made = configure(
        ConfigRequest(
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
            cluster=cluster,
            route_port=route_port,
            replace=replace,
        )
    )
    typer.echo("\n".join(_next(product.value, made, out)))


def relocate(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="made by sarvis broker config, moved or copied since")
    ],
) -> None:
    """Change the folder names in a broker's configuration to its present folder; the rest stays unchanged."""
    relocation.check(folder)
    changed = relocation.relocate(folder)
    for path in changed:
        typer.echo(f"{path} names {folder.absolute()} now; restart the broker, which reads these names when it starts")
    if not changed:
        typer.echo(f"nothing in {folder} names another folder")


def _next(product: str, made: Made, out: Path) -> list[str]:
    program = {"mosquitto": "mosquitto -c", "nats": "nats-server -c", "embedded": "sarvis broker --config"}[product]
    first, *more = [f"{program} {config}" for config in made.configs]
    if more:
        start = [f"  start node 1          {first}"]
        start += [f"  start node {number}          {line}" for number, line in enumerate(more, start=2)]
    else:
        start = [f"  start the broker      {first}"]
    bridge, key = made.bridge_kit / kit.SETTINGS, made.bridge_kit / kit.OPERATOR_KEY
    warning = [
        "",
        f"{out} belongs to root, so this broker runs as root. Better: give the folder to the broker's own user",
        "with chown -R, and run this command again.",
    ]  # fmt: skip
    lost = [
        f"the certificate is no longer made for {name}: clients that connect with that name refuse it"
        for name in made.lost_names
    ]
    return [
        *lost,
        f"{made.configs[0]} is written{f', and {len(more)} beside it' if more else ''}. Next:",
        "",
        *start,
        f"  start the bridge      sarvis bridge --config {bridge}",
        f"  make your own key     sarvis token api me --role operator --out {key} --config {bridge}",
        f"  add a device          sarvis device add ID --kit ID --config {bridge}",
        f"  make an app's token   sarvis token app UID --config {bridge}",
        f"  watch as an operator  {kit.watch_command(made.operator_kit, made.description.prefix)}",
        *(warning if made.runs_as_root and product == "mosquitto" else []),
    ]
