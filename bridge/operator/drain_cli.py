"""`sarvis drain`: asks a running bridge to leave, or several one after the other."""

import time
from pathlib import Path
from typing import Annotated

import typer

from contract.errors import SarvisError, SettingsError
from infra.cli_output import AsJson, Config, say_json
from infra.log import configure_logging
from infra.settings.loader import Settings, load

DRAIN = "/api/bridge/drain"


def drain(
    bridge: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="the bridge's own address, not its proxy's; else operator.url"),
    ] = None,
    *,
    one_after_the_other: Annotated[
        bool,
        typer.Option(
            "--all",
            help="drain all these bridges, each when the one before is back and has been ready for 10 s: give --bridge "
            "for each",
        ),
    ] = False,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Ask the running bridge to send its apps away, a few at a time, and to end; as SIGTERM does."""
    from bridge.operator.client import where  # noqa: PLC0415 - an HTTP client loads longer than --help takes

    urls = bridge or []
    if one_after_the_other:
        if len(set(urls)) < 2:  # noqa: PLR2004 - one cannot take the other's apps
            raise SettingsError("--all drains one bridge after the other: give --bridge URL for each of two or more")
        _roll(config, urls, as_json=as_json)
        return
    if len(urls) > 1:
        raise SettingsError("several bridges that leave together take no apps over: add --all, or give one --bridge")
    settings = load(config, operator__url=urls[0] if urls else None)
    configure_logging(settings.log)
    sockets, within_s = _asked(settings)
    if as_json:
        say_json({"bridge": where(settings), "sockets": sockets, "within_s": within_s})
    else:
        typer.echo(
            f"the bridge at {where(settings)} leaves: it sends {sockets} app{'' if sockets == 1 else 's'} away and "
            f"ends within {within_s:g} s"
        )


def _asked(settings: Settings) -> tuple[int, float]:
    """How many apps it sends away, and within how many seconds it ends; raises SarvisError."""
    from bridge.operator.client import ask, where  # noqa: PLC0415 - as above

    told = ask(settings, DRAIN, {}, afterwards="/readyz of the bridge says `not ready` while it leaves")
    sockets, within_s = told.get("sockets"), told.get("within_s")
    if not isinstance(sockets, int) or not isinstance(within_s, int | float):
        raise SarvisError(f"the server at {where(settings)} gave an unknown answer; check that it is the bridge")
    return sockets, within_s


def _roll(config: Path | None, urls: list[str], *, as_json: bool) -> None:
    from bridge.operator.client import readiness  # noqa: PLC0415 - as above
    from bridge.operator.rolling import Rolling  # noqa: PLC0415 - as above

    settings = {url: load(config, operator__url=url) for url in urls}
    configure_logging(settings[urls[0]].log)
    Rolling(
        drain=lambda url: _asked(settings[url])[1],
        problem=lambda url: readiness(settings[url]),
        now=time.monotonic,
        sleep=time.sleep,
        tell=lambda line: None if as_json else typer.echo(line),
    ).all(list(settings))
    if as_json:
        say_json({"drained": list(settings)})
