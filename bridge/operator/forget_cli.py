"""`sarvis forget`: deletes or makes anonymous what is kept of a user."""

from typing import Annotated

import typer

from contract.errors import SarvisError, SettingsError
from contract.names import check_uid
from infra.cli_output import AsJson, Config, say_json
from infra.log import configure_logging
from infra.settings.loader import load

FORGET = "/api/users/forget"


def forget(
    uid: Annotated[str, typer.Argument(metavar="UID", help="whom to forget")],
    *,
    bridge: Annotated[str | None, typer.Option(metavar="URL", help="the bridge's address; else operator.url")] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Log a user out, then delete or make anonymous what the running bridge keeps; exit 1 if something must stay."""
    from bridge.operator.client import ask, where  # noqa: PLC0415 - an HTTP client loads longer than --help takes

    settings = load(config, operator__url=bridge)
    configure_logging(settings.log)
    try:
        check_uid(uid)
    except ValueError as error:
        raise SettingsError(f"UID {error}") from None
    told = ask(settings, FORGET, {"uid": uid}, afterwards="type the command again: that does no harm")
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
