"""`sarvis token`: tokens for apps, keys for HTTP callers and operators; each secret is printed once."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import typer
from pydantic import TypeAdapter, ValidationError

from bridge.auth import api_keys, tokens
from bridge.lines import AsJson, Config, StoreUrl, say_json, say_table
from bridge.rows import ApiKey
from bridge.sql_store import SqlStore
from contract.clock import iso
from contract.errors import SarvisError, SettingsError
from contract.files import write
from contract.messages import DeviceId, check_uid
from contract.places import kept_at_home
from contract.sections.bridge import StoreSettings
from contract.settings import Settings, load
from contract.telemetry import configure_logging

DAY_S = 24 * 3600.0
MAX_DAYS = 3650

Answer = TypeVar("Answer")
Out = Annotated[
    Path | None, typer.Option(help="write it into this file, which only you can read, instead of printing it")
]
Days = Annotated[float, typer.Option(min=0.0001, max=MAX_DAYS, help="valid for so many days")]

token = typer.Typer(add_completion=False, no_args_is_help=True, help="Tokens for apps, keys for HTTP callers.")


@token.callback()
def _token() -> None:
    """Tokens for apps, keys for HTTP callers and operators."""


@token.command()
def app(
    uid: Annotated[str, typer.Argument(metavar="UID", help="whose apps")],
    *,
    days: Days = 30,
    device: Annotated[list[str] | None, typer.Option(help="the app may log in only there; may be repeated")] = None,
    out: Out = None,
    config: Config = None,
) -> None:
    """Print a token for a user's apps, signed with the newest key of auth.key_file."""
    settings = _settings(config)
    try:
        check_uid(uid)
        devices = [TypeAdapter(DeviceId).validate_python(name) for name in device or ()]
    except ValidationError:
        raise SettingsError("--device must be 1 to 64 letters, digits, _ and -") from None
    except ValueError as error:
        raise SettingsError(f"UID {error}") from None
    path = kept_at_home(settings.auth.key_file, tokens.SETTING)
    tokens.make_missing(path)
    key = tokens.read(path)[0]
    _hand_out(tokens.issue(key, uid, now=time.time(), valid_s=days * DAY_S, devices=devices), out)


@token.command()
def api(
    name: Annotated[str, typer.Argument(metavar="NAME", help="what it is for, so that you know it again")],
    *,
    role: Annotated[
        Literal["caller", "operator"],
        typer.Option(
            help="caller: the documented endpoints, for every user; operator: metrics, docs, sessions, devices"
        ),
    ] = "caller",
    days: Annotated[
        float | None, typer.Option(min=0.0001, max=MAX_DAYS, help="valid for so many days; without end if not given")
    ] = None,
    out: Out = None,
    config: Config = None,
    store_url: StoreUrl = None,
) -> None:
    """Print a new API key; the ledger keeps its hash alone. A running bridge knows it within 1 s."""
    settings = _settings(config, store_url)
    if not name.isprintable() or not 1 <= len(name) <= 64:  # noqa: PLR2004 - a name
        raise SettingsError("NAME must be 1 to 64 printable characters")
    expires_at = None if days is None else time.time() + days * DAY_S
    written = api_keys.make(name, role, iso(datetime.now(UTC)), expires_at)
    _with_store(settings.store, lambda store: store.add_api_key(written.row))
    _hand_out(written.text, out)


@token.command("list")
def list_all(*, config: Config = None, store_url: StoreUrl = None, as_json: AsJson = False) -> None:
    """Tell which API keys there are and which keys sign tokens; no secret is shown."""
    settings = _settings(config, store_url)
    keys = _with_store(settings.store, lambda store: store.api_keys())
    path = kept_at_home(settings.auth.key_file, tokens.SETTING)
    signing = [key.key_id for key in tokens.read(path)] if path.exists() else []
    if as_json:
        say_json({"api_keys": [_told(key) for key in keys], "signing_keys": signing})
        return
    if keys:
        rows = [(key.key_id, key.role, key.name, key.created_at, _told(key)["expires_at"] or "never") for key in keys]
        say_table(("KEY", "ROLE", "NAME", "MADE", "EXPIRES"), rows)
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
    """Let an API key be invalid; a running bridge refuses it within 5 s."""
    settings = _settings(config, store_url)
    if not _with_store(settings.store, lambda store: store.drop_api_key(key_id)):
        raise SarvisError(f"there is no API key {key_id}; `sarvis token list` shows them")
    typer.echo(f"{key_id} is not valid any more")


@token.command()
def rotate(
    *,
    drop_old: Annotated[
        bool, typer.Option("--drop-old", help="tokens of older keys are refused and their apps disconnected")
    ] = False,
    config: Config = None,
) -> None:
    """Let a new key sign tokens from now on; a running bridge takes it within 1 s, and the older ones stay valid."""
    settings = _settings(config)
    new = tokens.rotate(kept_at_home(settings.auth.key_file, tokens.SETTING), drop_old=drop_old)
    typer.echo(f"{new.key_id} signs tokens from now on" + ("; older keys are gone" if drop_old else ""))


def _hand_out(secret: str, out: Path | None) -> None:
    if out is None:
        typer.echo(secret)
        return
    try:
        write(out, secret + "\n")
    except OSError as error:
        raise SettingsError(f"--out {out} cannot be written: {error.strerror}") from None
    typer.echo(f"written to {out}")


def _settings(config: Config, store_url: str | None = None) -> Settings:
    settings = load(config, store__url=store_url)
    configure_logging(settings.log)
    return settings


def _with_store(settings: StoreSettings, do: Callable[[SqlStore], Awaitable[Answer]]) -> Answer:
    async def run() -> Answer:
        store = await SqlStore.open(settings, alone=False)
        try:
            return await do(store)
        finally:
            await store.close()

    return asyncio.run(run())


def _told(key: ApiKey) -> dict[str, str | None]:
    expires = None if key.expires_at is None else iso(datetime.fromtimestamp(key.expires_at, UTC))
    return {
        "key_id": key.key_id,
        "role": key.role,
        "name": key.name,
        "created_at": key.created_at,
        "expires_at": expires,
    }
