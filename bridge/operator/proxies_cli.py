"""`sarvis bridge config`: writes the configuration of a proxy in front of several bridges."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from bridge.operator import proxies
from bridge.operator.proxies import HEAD, Plan
from contract.errors import SettingsError
from infra import files
from infra.settings.base import HttpUrl

RENDER = {"haproxy": proxies.haproxy, "nginx": proxies.nginx}


class Product(StrEnum):
    """Proxies that can be configured."""

    haproxy = "haproxy"
    nginx = "nginx"


def config(
    product: Annotated[Product, typer.Argument(help="which proxy")],
    out: Annotated[Path, typer.Option(help="the file to write; one that this command wrote is replaced")],
    bridge: Annotated[
        list[str], typer.Option(metavar="URL", help="a bridge's own address, https://HOST:PORT; once for each bridge")
    ],
    cert: Annotated[Path, typer.Option(help="the certificate that the proxy shows to apps; its key beside it as .key")],
    bridge_ca: Annotated[
        Path | None, typer.Option(help="the authority of the bridges' certificates: ca.crt of their kits")
    ] = None,
    bridge_name: Annotated[
        str | None, typer.Option(help="the name in every bridge's certificate; default: the host of the first --bridge")
    ] = None,
    listen: Annotated[str, typer.Option(help="address to listen on")] = "0.0.0.0",
    port: Annotated[int, typer.Option(min=1, max=65535, help="for apps and callers, with TLS")] = 443,
) -> None:
    """Write the configuration of a proxy that hands apps to bridges that are ready, and loses none when one leaves."""
    plan = Plan(
        bridges=tuple(_url(text) for text in bridge),
        listen=(listen, port),
        cert=str(cert.absolute()),
        key=str(cert.absolute().with_suffix(".key")),
        ca_file=None if bridge_ca is None else str(bridge_ca.absolute()),
        name=bridge_name,
    )
    proxies.check(plan)
    for path in (plan.cert, plan.key, plan.ca_file):
        if path is not None and not Path(path).is_file():
            raise SettingsError(f"{path} does not exist")
    _write(out, RENDER[product.value](plan))
    typer.echo(
        f"{out} is written. On every bridge:\n\n"
        f"  in sarvis.toml, [bridge]   {proxies.trusted(['THE_PROXYS_ADDRESS'])}\n"
        '  and, [auth]                mode = "required"\n\n'
        'Then start the proxy with it; docs/operations.md, "Several bridges behind a proxy".'
    )


def _url(text: str) -> str:
    try:
        return str(TypeAdapter(HttpUrl).validate_python(text))
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False, include_context=False)[0]["msg"]
        raise SettingsError(f"--bridge: {fault.removeprefix('Value error, ')}") from None


def _write(path: Path, text: str) -> None:
    try:
        if path.exists() and not path.read_text(errors="replace").startswith(HEAD):
            raise SettingsError(f"--out: {path} was not written by this command and is not replaced; name another file")
        files.write(path, text, files.PUBLIC)
    except OSError as error:
        raise SettingsError(f"--out: {path} cannot be written: {error.strerror}") from None
