"""`sarvis audit`: who logged whom in and out, as JSON lines for other programs."""

import json
import time
from dataclasses import asdict
from typing import Annotated

import typer

from bridge.storage.reader import LedgerReader
from bridge.storage.reading import open_reader
from contract.errors import SarvisError
from infra.cli_output import Config, StoreUrl
from infra.log import configure_logging
from infra.settings.loader import load

LOOK_EVERY_S = 0.5
AT_ONCE = 1000

audit = typer.Typer(add_completion=False, no_args_is_help=True, help="Who logged whom in and out, from where.")


@audit.callback()
def _audit() -> None:
    """Who logged whom in and out, from where."""


@audit.command()
def export(
    *,
    after: Annotated[
        int, typer.Option(min=0, metavar="NUMBER", help="only lines after the one with this number; 0: all")
    ] = 0,
    about: Annotated[
        str | None, typer.Option(metavar="NAME", help="only lines about this user, device or session")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="then lines as they come, until it is interrupted")] = False,
    config: Config = None,
    store_url: StoreUrl = None,
) -> None:
    """Print the audit as JSON lines, oldest first; a gap between their numbers tells that lines were deleted."""
    settings = load(config, store__url=store_url)
    configure_logging(settings.log)
    with open_reader(settings.store) as ledger:
        newest = ledger.newest_audit()
        if after > newest:
            raise SarvisError(f"--after {after}: the newest line of this ledger has the number {newest}; name that one")
        after = _print(ledger, after, about)
    while follow:
        time.sleep(LOOK_EVERY_S)
        with open_reader(settings.store) as ledger:
            after = _print(ledger, after, about)


def _print(ledger: LedgerReader, after: int, about: str | None) -> int:
    """Print the lines after that one; returns the number of the last line that was looked at."""
    while lines := ledger.audit_after(after, AT_ONCE):
        for number, line in lines:
            if about is None or about in {line.uid, line.device_id, line.session_id}:
                typer.echo(json.dumps({"number": number, **asdict(line)}, ensure_ascii=False))
        after = lines[-1][0]
    return after
