"""`sarvis certs`: certificates for the broker and its clients."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from broker.provisioning import certs
from broker.provisioning.messages import say_reload
from broker.provisioning.renewal import renew

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Certificates for the broker and its clients, and their authority."
)

Out = Annotated[Path, typer.Option("--out", help="the folder of the certificate authority")]


@app.command()
def ca(out: Out) -> None:
    """Create a certificate authority, for ten years; an existing one is never replaced."""
    path = certs.make_authority(out)
    typer.echo(f"{path}: give it to every client, it is not secret")
    typer.echo(f"{out / certs.CA_KEY}: keep it secret and back it up; its holder can impersonate every client")


@app.command()
def server(
    out: Annotated[
        Path, typer.Option("--out", help="the folder of a broker (sarvis broker config), or that of the authority")
    ],
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...",
            help="the names by which clients connect: host names, IP addresses; a renewal keeps the existing ones",
        ),
    ] = None,
) -> None:
    """Create the server's certificate, or renew it with the same key, wherever it is served from that folder."""
    done = renew(out, names or ())
    _say_pair(done.pair)
    for lost in done.lost:
        typer.echo(f"it is no longer made for {lost}: clients that connect with that name refuse it")
    for copy in done.copies:
        typer.echo(f"{copy}: the bridge serves it within a second; a copy of this folder elsewhere needs it, too")
    for path in done.foreign:
        typer.echo(f"{path}: it has a key of its own and was left as it is")
    if done.reload is not None:
        say_reload(done.reload, "it serves this certificate")


@app.command()
def client(
    user: Annotated[str, typer.Argument(metavar="USER", help="a device id, bridge.INSTANCE or operator.NAME")],
    out: Out,
) -> None:
    """Create a client's certificate, or renew it with the same key. It admits the broker's user of that name."""
    _say_pair(certs.issue_client(out, user))


@app.command()
def show(file: Annotated[Path, typer.Argument(metavar="FILE", help="a certificate")]) -> None:
    """Show the subject of a certificate, its issuer, and until when it is valid."""
    said = certs.describe(file)
    typer.echo(f"{said.kind} {said.subject}")
    if said.names:
        typer.echo(f"names   {', '.join(said.names)}")
    typer.echo(f"issuer  {said.issuer}")
    typer.echo(f"until   {said.until:%Y-%m-%d} ({_left(said.until)})")


def _say_pair(pair: certs.Pair) -> None:
    said = certs.describe(pair.cert)
    names = f", for {', '.join(said.names)}" if said.names else ""
    typer.echo(f"{pair.cert}: valid until {said.until:%Y-%m-%d}{names}")
    typer.echo(f"{pair.key}: keep it secret")


def _left(until: datetime) -> str:
    days = (until - datetime.now(UTC)).days
    return f"{days} days left" if days >= 0 else "EXPIRED: renew it"
