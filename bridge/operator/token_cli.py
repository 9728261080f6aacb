"""`sarvis token`: tokens for apps, keys for HTTP callers and operators; each secret is printed once."""

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import typer

from bridge.auth import tokens
from bridge.storage.reading import open_reader
from bridge.storage.records import ApiKey
from bridge.storage.sqlite import creation
from contract.clock import iso
from contract.errors import SarvisError, SettingsError
from contract.names import check_uid, is_device_id
from infra.cli_output import AsJson, Config, StoreUrl, say_json, say_table
from infra.handover import handed_over
from infra.log import configure_logging
from infra.places import kept_at_home
from infra.readable import is_there
from infra.settings.bridge import StoreSettings
from infra.settings.loader import Settings, config_file, load

DAY_S = 24 * 3600.0
MAX_DAYS = 3650

Answer = TypeVar("Answer")
Out = Annotated[
    Path | None, typer.Option(help="write it into this file, which only you can read, instead of printing it")
]
Days = Annotated[float, typer.Option(min=0.0001, max=MAX_DAYS, help="valid for this many days")]

token = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Tokens for apps, keys for HTTP callers and operators."
)


@token.callback()
def _token() -> None:
    """Tokens for apps, keys for HTTP callers and operators."""


@token.command()
def app(
    uid: Annotated[str, typer.Argument(metavar="UID", help="whose apps")],
    *,
    days: Days = 30,
    device: Annotated[
        list[str] | None, typer.Option(help="the only device on which the app may log in; may be repeated")
    ] = None,
    out: Out = None,
    config: Config = None,
) -> None:
    """Print a token for a user's apps, signed with the newest key of auth.key_file."""
    settings = _settings(config)
    try:
        check_uid(uid)
    except ValueError as error:
        raise SettingsError(f"UID {error}") from None
    devices = device or []
    if not all(map(is_device_id, devices)):
        raise SettingsError("--device must be 1 to 64 letters, digits, _ and -")
    path = kept_at_home(settings.auth.key_file, tokens.SETTING)
    tokens.make_missing(path)
    key = tokens.read(path)[0]
    with handed_over(tokens.issue(key, uid, now=time.time(), valid_s=days * DAY_S, devices=devices), out):
        pass  # its signature makes it valid
    _say_where(out)


@token.command()
def api(
    name: Annotated[str, typer.Argument(metavar="NAME", help="what the key is for, to recognise it later")],
    *,
    role: Annotated[
        Literal["caller", "operator", "viewer"],
        typer.Option(
            help="caller: the documented endpoints, for every user; operator: metrics, docs, sessions, devices; "
            "viewer: of these only metrics, docs and the console, to look"
        ),
    ] = "caller",
    days: Annotated[
        float | None,
        typer.Option(min=0.0001, max=MAX_DAYS, help="valid for this many days; by default it does not expire"),
    ] = None,
    out: Out = None,
    config: Config = None,
    store_url: StoreUrl = None,
) -> None:
    """Print a new API key; the ledger keeps its hash alone. A running bridge knows it within 1 s."""
    from bridge.auth import api_keys  # noqa: PLC0415

    settings = _settings(config, store_url)
    if not name.isprintable() or not 1 <= len(name) <= 64:  # noqa: PLR2004 - a name
        raise SettingsError("NAME must be 1 to 64 printable characters")
    expires_at = None if days is None else time.time() + days * DAY_S
    written = api_keys.make(name, role, iso(datetime.now(UTC)), expires_at)

    async def add(store: Any) -> None:
        with handed_over(written.text, out):
            await store.add_api_key(written.row)

    _change(settings.store, _prepared(config, store_url), add)
    _say_where(out)


@token.command("list")
def list_all(*, config: Config = None, store_url: StoreUrl = None, as_json: AsJson = False) -> None:
    """List the API keys and the keys that sign tokens; shows no secret."""
    settings = _settings(config, store_url)
    with open_reader(settings.store) as ledger:
        keys = ledger.api_keys()
    path = kept_at_home(settings.auth.key_file, tokens.SETTING)
    signing = [key.key_id for key in tokens.read(path)] if is_there(path) else []
    if as_json:
        say_json({"api_keys": [_told(key) for key in keys], "signing_keys": signing})
        return
    if keys:
        rows = [
            (key.key_id, key.role, key.name, key.created_at, told["expires_at"] or "never", told["used_at"] or "-")
            for key, told in zip(keys, map(_told, keys), strict=True)
        ]
        say_table(("KEY", "ROLE", "NAME", "MADE", "EXPIRES", "LAST USED"), rows)
    else:
        typer.echo("there is no API key")
    typer.echo(f"\ntokens are signed by {signing[0]}" if signing else "\nno key signs tokens yet")
    if signing[1:]:
        typer.echo(f"tokens of {', '.join(signing[1:])} are still accepted")


@token.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="KEY", help="as `sarvis token list` shows it")],
    *,
    config: Config = None,
    store_url: StoreUrl = None,
) -> None:
    """Revoke an API key; a running bridge refuses it within 5 s."""
    settings = _settings(config, store_url)
    if not _change(settings.store, None, lambda store: store.drop_api_key(key_id)):
        raise SarvisError(f"there is no API key {key_id}; `sarvis token list` shows the existing keys")
    typer.echo(f"{key_id} is no longer valid")


@token.command()
def rotate(
    *,
    drop_old: Annotated[
        bool, typer.Option("--drop-old", help="tokens of older keys are refused and their apps disconnected")
    ] = False,
    config: Config = None,
) -> None:
    """Make a new key sign tokens from now on; a running bridge uses it within 1 s, and older keys stay valid."""
    settings = _settings(config)
    new = tokens.rotate(kept_at_home(settings.auth.key_file, tokens.SETTING), drop_old=drop_old)
    typer.echo(f"{new.key_id} signs tokens from now on" + ("; older keys were deleted" if drop_old else ""))


def _say_where(out: Path | None) -> None:
    if out is not None:
        typer.echo(f"written to {out}")


def _settings(config: Config, store_url: str | None = None) -> Settings:
    settings = load(config, store__url=store_url)
    configure_logging(settings.log)
    return settings


def _prepared(config: Config, store_url: str | None) -> Path | None:
    return None if store_url is not None else creation.prepared_by(config_file(config))


def _change(settings: StoreSettings, prepared: Path | None, do: Callable[[Any], Awaitable[Answer]]) -> Answer:
    """What `do` returns, which is given a SqlStore."""
    import asyncio  # noqa: PLC0415

    from bridge.storage.opening import ledger  # noqa: PLC0415 - SQLAlchemy loads longer than the others take

    async def run() -> Answer:
        async with ledger(settings, prepared) as store:
            return await do(store)

    return asyncio.run(run())


def _told(key: ApiKey) -> dict[str, str | None]:
    expires = None if key.expires_at is None else iso(datetime.fromtimestamp(key.expires_at, UTC))
    return {
        "key_id": key.key_id,
        "role": key.role,
        "name": key.name,
        "created_at": key.created_at,
        "expires_at": expires,
        "used_at": None if key.used_at is None else iso(datetime.fromtimestamp(key.used_at, UTC)),
    }
