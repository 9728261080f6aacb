"""`sarvis backup` and `sarvis restore`: everything that a hub must not lose, in one file."""

from pathlib import Path
from typing import Annotated

import typer

from contract.errors import SettingsError, StartError
from infra.cli_output import Config, StoreUrl
from infra.places import shown_home
from infra.settings.bridge import SQLITE, StoreSettings
from infra.settings.loader import config_file, load


def backup(
    out: Annotated[
        Path, typer.Option("--out", help="the file to write; it contains keys: store it as safely as the keys")
    ],
    config: Config = None,
    store_url: StoreUrl = None,
) -> None:
    """Write ledger, broker's store and folder, keys and settings into one file, also while everything runs."""
    from sarvis.backup.write import write  # noqa: PLC0415 the ledger's libraries cost every command their start

    done = write(load(config, store__url=store_url), config_file(config), out)
    for entry in done.entries:
        typer.echo(f"{entry.kind:<9} {entry.path}")
    for path in done.left_out:
        typer.echo(f"left out  {path}: devices and bridges publish again what the broker stores there")
    typer.echo(f"{done.path} is written, {done.path.stat().st_size} bytes; it contains keys")


def restore(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="a file of `sarvis backup`, or a copy of a ledger alone")
    ],
    *,
    to: Annotated[
        Path | None, typer.Option(help="put all files below this folder, instead of their original places")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="keep existing files under other names")] = False,
    incomplete: Annotated[
        bool, typer.Option("--incomplete", help="a copy of a ledger without its log: its newest changes are lost")
    ] = False,
    config: Config = None,
    store_url: StoreUrl = None,
) -> None:
    """Restore a back-up; bridge and embedded broker must be stopped."""
    from sarvis.backup import restore as back  # noqa: PLC0415 the ledger's libraries cost every command their start

    if back.is_archive(file):
        done = back.restore(file, lambda: _database(config, store_url), to=to, replace=replace)
    else:
        store = load(config, store__url=store_url).store
        if store.url.startswith(SQLITE + "~") and not store.path.exists():
            raise StartError(
                f"there is no ledger at {store.path}{shown_home(store.url)}, and one restored there would be read by "
                f"no bridge of another user; name its place with --config or --store-url"
            )
        done = back.restore_ledger(file, store, replace=replace, incomplete=incomplete)
    for path in done.aside:
        typer.echo(f"kept      {path}")
    for path in done.put:
        typer.echo(f"restored  {path}")
    typer.echo("start the bridge: it recognises the back-up, and every user gets the full time-out from then on")


def _database(config: Path | None, store_url: str | None) -> StoreSettings:
    store = load(config, store__url=store_url).store
    if store.is_file:
        raise SettingsError(
            "the ledger in this back-up was in a PostgreSQL database: name the one that it belongs to with --config or "
            "--store-url, or take it out as a file with --to FOLDER"
        )
    return store
