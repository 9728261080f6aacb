"""`sarvis drain`: asks a running bridge to leave."""

from typing import Annotated

import typer

from contract.errors import SarvisError
from infra.cli_output import AsJson, Config, say_json
from infra.log import configure_logging
from infra.settings.loader import load

DRAIN = "/api/bridge/drain"


def drain(
    bridge: Annotated[
        str | None, typer.Option(metavar="URL", help="the bridge's own address, not its proxy's; else operator.url")
    ] = None,
    *,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Ask the running bridge to send its apps away, a few at a time, and to end; as SIGTERM does."""
    from bridge.operator.client import ask, where  # noqa: PLC0415 - an HTTP client loads longer than --help takes

    settings = load(config, operator__url=bridge)
    configure_logging(settings.log)
    told = ask(settings, DRAIN, {}, afterwards="/readyz of the bridge says `not ready` while it leaves")
    sockets, within_s = told.get("sockets"), told.get("within_s")
    if not isinstance(sockets, int) or not isinstance(within_s, int | float):
        raise SarvisError(f"the server at {where(settings)} gave an unknown answer; check that it is the bridge")
    if as_json:
        say_json({"bridge": where(settings), "sockets": sockets, "within_s": within_s})
    else:
        typer.echo(
            f"the bridge at {where(settings)} leaves: it sends {sockets} app{'' if sockets == 1 else 's'} away and "
            f"ends within {within_s:g} s"
        )
