"""Writes the place of the ledger into the bridge's kit."""

import os
import pwd
import tomllib
from contextlib import suppress
from pathlib import Path

import typer

from broker import files
from infra.settings import store_url
from infra.settings.bridge import SQLITE, StoreSettings
from infra.settings.store_url import OF_SET_UP

LEDGER = "ledger.db"
"""In the kit; empty until a bridge, or the first command that adds something, creates the ledger in it."""


def of_set_up(settings: Path) -> str | None:
    """The address that set-up last wrote into the settings of a kit; None if there is none."""
    lines = files.read(settings).splitlines() if settings.exists() else []
    number = next((number for number, line in enumerate(lines) if line.endswith(OF_SET_UP)), None)
    return None if number is None else _named("\n".join(lines[number : number + 2]))


def of_kit(settings: Path) -> str | None:
    """The address for `store.url`; None if an older kit has none and its ledger is not found, which is reported.

    A configured address stays; in a new kit the ledger's place is prepared.
    """
    if not settings.exists():
        ledger = settings.with_name(LEDGER)
        if not ledger.exists():
            files.write(ledger, "")
        return f"{SQLITE}{LEDGER}"
    named = _named(store_url.without_replaced(files.read(settings)))
    if named is not None:
        return named
    found = _at_homes(settings.parent)
    if len(found) == 1:
        typer.echo(f"{settings} now names the ledger that its bridge has used until today: {found[0]}", err=True)
        return f"{SQLITE}{found[0]}"
    if not os.environ.get("SARVIS_STORE__URL"):
        between = f"there are {len(found)} ({', '.join(map(str, found))})" if found else "none is found"
        typer.echo(
            f"{settings} was made by an older version and has no place of the ledger: the bridge stores it below "
            f"the home of its user, and {between}. So that commands of other users find it, too, add these lines to "
            f'that file:\n\n[store]\nurl = "{SQLITE}/PATH/TO/ledger.db"\n',
            err=True,
        )
    return None


def _named(text: str) -> str | None:
    try:
        url = tomllib.loads(text).get("store", {}).get("url")
    except (tomllib.TOMLDecodeError, AttributeError):
        return None
    return url if isinstance(url, str) else None


def _at_homes(folder: Path) -> list[Path]:
    """The ledgers below the home of this user, and below that of the folder's owner."""
    usual = Path(str(StoreSettings.model_fields["url"].default).removeprefix(SQLITE))
    homes = {os.environ.get("HOME", "")}
    with suppress(KeyError):  # a user without a name, as in a container
        homes.add(pwd.getpwuid(folder.stat().st_uid).pw_dir)
    places = {Path(home) / usual.relative_to("~") for home in homes if home}
    return sorted({place.resolve() for place in places if os.access(place, os.F_OK)})
