"""`sarvis console`: a link that logs a browser in to the console."""

from typing import Annotated

import typer

from contract.errors import SarvisError
from infra.cli_output import AsJson, Config, say_json
from infra.log import configure_logging
from infra.settings.loader import load

LINK = "/api/console/link"


def console(
    bridge: Annotated[
        str | None, typer.Option(metavar="URL", help="the bridge's address for browsers; else operator.url")
    ] = None,
    *,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Print a link that logs a browser in to the running bridge's console, once, within 10 minutes."""
    from bridge.operator.client import ask, where  # noqa: PLC0415 - an HTTP client loads longer than --help takes

    settings = load(config, operator__url=bridge)
    configure_logging(settings.log)
    told = ask(settings, LINK, {}, afterwards="ask for another link")
    path, within_s = told.get("path"), told.get("within_s")
    if not isinstance(path, str) or not path.startswith("/console") or not isinstance(within_s, int | float):
        raise SarvisError(f"the server at {where(settings)} gave an unknown answer; check that it is the bridge")
    link = where(settings).rstrip("/") + path
    if as_json:
        say_json({"link": link, "within_s": within_s})
    else:
        typer.echo(link)
