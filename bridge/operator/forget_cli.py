"""`sarvis forget`: deletes or makes anonymous what is kept of a user."""

import asyncio
import sqlite3
from typing import Annotated, Any

import typer

from contract.errors import SarvisError, SettingsError, StartError
from contract.names import check_uid
from infra.cli_output import AsJson, Config, say_json
from infra.log import configure_logging
from infra.settings.loader import Settings, load

FORGET = "/api/users/forget"


def forget(
    uid: Annotated[str, typer.Argument(metavar="UID", help="whom to forget")],
    *,
    bridge: Annotated[str | None, typer.Option(metavar="URL", help="the bridge's address; else operator.url")] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Log a user out, then delete or make anonymous what the bridge keeps; exit 1 if something must stay."""
    from bridge.operator.client import where  # noqa: PLC0415 - an HTTP client loads longer than --help takes

    settings = load(config, operator__url=bridge)
    configure_logging(settings.log)
    try:
        check_uid(uid)
    except ValueError as error:
        raise SettingsError(f"UID {error}") from None
    told = _told(settings, uid)
    try:
        stays = [
            *(f"{device}: it has not confirmed the log-out; type this again when it has" for device in told["waiting"]),
            *(f"{device}: it is to log in {uid}; add it for another user, or remove it" for device in told["claims"]),
        ]
        deleted = (
            f"{told['stories']} stories and events, {told['missed']} missed wakes and {told['subscriptions']} "
            f"subscribed phones were deleted"
        )
        renamed = f"{told['audit']} audit lines and {told['sessions']} ended sessions are now of {told['name']}"
    except (KeyError, TypeError):
        told_by = where(settings)
        raise SarvisError(f"the server at {told_by} gave an unknown answer; check that it is the bridge") from None
    if as_json:
        say_json(told)
    else:
        typer.echo("\n".join([deleted, renamed, *(f"still named at {one}" for one in stays)]))
    if stays:
        raise typer.Exit(1)


def _told(settings: Settings, uid: str) -> dict[str, Any]:
    """The answer of the running bridge; without one at its usual address the same is done here."""
    from bridge.operator.client import NoBridgeError, ask  # noqa: PLC0415 - see above

    try:
        return ask(settings, FORGET, {"uid": uid}, afterwards="type the command again: that does no harm")
    except NoBridgeError as error:
        if settings.operator.url is not None:
            raise
        no_bridge = error
    from bridge.operator.forget_stopped import forget_stopped  # noqa: PLC0415 - see above
    from bridge.storage.store import LedgerKeptError  # noqa: PLC0415 - see above

    # A bridge says at its start what it finds; here no person asked for that.
    configure_logging(settings.log.model_copy(update={"level": "warning"}))
    try:
        return asyncio.run(forget_stopped(settings, uid))
    except LedgerKeptError:
        raise no_bridge from None  # one runs, but not at the configured address
    except StartError as error:
        raise StartError(f"{no_bridge}; and {error}") from None
    except sqlite3.Error as error:
        raise SarvisError(
            f"the stories cannot be written ({error}): the user is logged out, and not forgotten"
        ) from None
