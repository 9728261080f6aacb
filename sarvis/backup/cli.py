"""`sarvis backup` and `sarvis restore`: all that a hub must not lose, in one file."""

from pathlib import Path
from typing import Annotated

import typer

from bridge.lines import Config, StoreUrl
from contract.settings import config_file, load


def backup(
    out: Annotated[Path, typer.Option("--out", help="the file to write; it holds keys: keep it as safe as they are")],
    config: Config = None,
    store_url: StoreUrl = None,
) -> None:
    """Write ledger, broker's store and folder, keys and settings into one file, also while everything runs."""
    from sarvis.backup.write import write  # noqa: PLC0415 the ledger's libraries cost every command their start

    done = write(load(config, store__url=store_url), config_file(config), out)
    for entry in done.entries:
        typer.echo(f"{entry.kind:<9} {entry.path}")
    for path in done.left_out:
        typer.echo(f"left out  {path}: what the broker keeps there, devices and bridges say again")
    typer.echo(f"{done.path} is written, {done.path.stat().st_size} bytes; it holds keys")


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="what sarvis backup wrote, or a copy of a ledger alone")],
    *,
    to: Annotated[Path | None, typer.Option(help="put all files below this folder, instead of where they were")] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="what lies there is kept beside, under another name")
    ] = False,
    incomplete: Annotated[
        bool, typer.Option("--incomplete", help="a copy of a ledger that lacks its log: what was written last is lost")
    ] = False,
    config: Config = None,
    store_url: StoreUrl = None,
) -> None:
    """Put a back-up in its place; bridge and embedded broker must be stopped."""
    from sarvis.backup import restore as back  # noqa: PLC0415 the ledger's libraries cost every command their start

    if back.is_archive(file):
        done = back.restore(file, to=to, replace=replace)
    else:
        target = load(config, store__url=store_url).store.path
        done = back.restore_ledger(file, target, replace=replace, incomplete=incomplete)
    for path in done.aside:
        typer.echo(f"kept      {path}")
    for path in done.put:
        typer.echo(f"put back  {path}")
    typer.echo("start the bridge: it sees that this is a back-up, and everybody gets the full time-out from then on")
