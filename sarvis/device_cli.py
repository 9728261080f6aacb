"""`sarvis device`: manages devices in the ledger and at the broker, also while the bridge runs."""

from pathlib import Path
from typing import Annotated

import typer

from bridge.storage.reader import ALL, NOT_TOLD
from bridge.storage.reading import open_reader
from bridge.storage.sqlite.creation import prepared_by
from broker.access import users
from infra.cli_output import AsJson, Config, Most, StoreUrl, first, say_json, say_table
from infra.log import configure_logging
from infra.places import kept_at_home
from infra.redaction import shown_url
from infra.settings.loader import Settings, config_file, load

device = typer.Typer(add_completion=False, no_args_is_help=True, help="Add, list, tag and remove devices.")


@device.callback()
def _device() -> None:
    """Add, list, tag and remove devices."""


@device.command()
def add(
    device_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="letters, digits, _ and -, at most 64")
    ] = None,
    *,
    listed: Annotated[
        Path | None,
        typer.Option("--from", help="a CSV file instead of ID: a line id,uid,logout_url, then a line for each device"),
    ] = None,
    uid: Annotated[
        str | None,
        typer.Option(help="log this user in there when no user is logged in and the user connects; '' for no user"),
    ] = None,
    logout_url: Annotated[
        str | None,
        typer.Option(
            help="the device speaks only HTTP: log-outs are posted to this address, whose host must be in the device's "
            "edge.http_hosts; '' for a device on MQTT again"
        ),
    ] = None,
    kit: Annotated[
        Path | None,
        typer.Option(
            help="write everything that `sarvis edge` needs on the device into this folder, with a new secret; "
            "with --from into one folder for each device below it"
        ),
    ] = None,
    new_secret: Annotated[
        bool,
        typer.Option(
            "--new-secret", help="create a new password, or a new key and certificate; earlier ones become invalid"
        ),
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="keep other files of the folder under other names")
    ] = False,
    config: Config = None,
    store_url: StoreUrl = None,
) -> None:
    """Add a device, or change one: options that are not given stay unchanged. Its secret is shown once."""
    settings = _settings(config, store_url)
    from sarvis import device_changes  # noqa: PLC0415 - it loads SQLAlchemy and cryptography, which `list` does without

    device_changes.add(
        settings, device_id, listed, uid, logout_url, kit, new_secret=new_secret, replace=replace,
        prepared=None if store_url is not None else prepared_by(config_file(config)),
    )  # fmt: skip


@device.command("list")
def list_all(
    *,
    tag: Annotated[str | None, typer.Option(help="only devices with this tag")] = None,
    version: Annotated[
        str | None, typer.Option(help="only those that run this version; - for those that have not told theirs")
    ] = None,
    model: Annotated[str | None, typer.Option(help="only those with this wake-word model; - as above")] = None,
    away_h: Annotated[
        float | None,
        typer.Option("--away-h", min=0, max=1_000_000, help="only those that did not report in the last HOURS"),
    ] = None,
    config: Config = None,
    store_url: StoreUrl = None,
    most: Most = 100,
    as_json: AsJson = False,
) -> None:
    """List the devices that were added or seen, and what they reported last."""
    settings = _settings(config, store_url)
    meant = ALL
    if (tag, version, model, away_h) != (None, None, None, None):
        from sarvis import device_tags  # noqa: PLC0415 - it loads SQLAlchemy

        meant = device_tags.which(tag, version, model, away_h)
    with open_reader(settings.store) as ledger:
        found = first(ledger.devices(most + 1, meant), most, "devices")
    known = set(users.load(kept_at_home(settings.broker.dir, "broker.dir")))
    if as_json:
        say_json({
            "devices": [
                {
                    "device_id": one.device_id,
                    "state": one.state,
                    "assigned_uid": one.assigned_uid,
                    "claim_uid": one.claim_uid,
                    "logout_url": one.logout_url and shown_url(one.logout_url),
                    "install_id": one.install_id,
                    "generation": one.generation,
                    "broker_user": one.device_id in known,
                    "tags": one.tags.split(),
                    "version": one.version or None,
                    "model": one.model or None,
                    "seen_at": one.seen_at,
                }
                for one in found
            ]
        })  # fmt: skip
    elif found:
        rows = [
            (
                one.device_id,
                one.state,
                one.assigned_uid or one.claim_uid or "-",
                shown_url(one.logout_url) if one.logout_url else "mqtt",
                "yes" if one.device_id in known else "-",
                one.seen_at or "-",
                one.version or "-",
                one.model or "-",
                one.tags or "-",
            )
            for one in found
        ]
        head = ("DEVICE", "STATE", "USER", "TOLD BY", "BROKER KNOWS IT", "REPORTED", "VERSION", "MODEL", "TAGS")
        say_table(head, rows)
    else:
        typer.echo("no device was added or seen" if meant is ALL else "no device is as these options say")


@device.command()
def tag(
    device_ids: Annotated[list[str], typer.Argument(metavar="ID...", help="as `sarvis device list` shows them")],
    *,
    add_tags: Annotated[
        list[str] | None, typer.Option("--add", metavar="TAG", help="give them this tag; may be repeated")
    ] = None,
    remove_tags: Annotated[
        list[str] | None, typer.Option("--remove", metavar="TAG", help="take this tag away; may be repeated")
    ] = None,
    config: Config = None,
    store_url: StoreUrl = None,
) -> None:
    """Give devices tags, by which `device list`, `rollout start` and the console find them; shows their tags."""
    settings = _settings(config, store_url)
    from sarvis import device_tags  # noqa: PLC0415

    tags = device_tags.change(
        settings.store, device_ids,
        device_tags.checked(add_tags or [], "--add"), device_tags.checked(remove_tags or [], "--remove"),
        prepared=None if store_url is not None else prepared_by(config_file(config)),
    )  # fmt: skip
    say_table(("DEVICE", "TAGS"), [(name, told or "-") for name, told in tags.items()])


@device.command()
def versions(*, config: Config = None, store_url: StoreUrl = None, as_json: AsJson = False) -> None:
    """Count devices by the version and the wake-word model that they run, and by tag."""
    settings = _settings(config, store_url)
    with open_reader(settings.store) as ledger:
        runs, tags = ledger.runs(), ledger.tags()
    if as_json:
        say_json({
            "runs": [{"version": one or None, "model": model or None, "devices": count} for one, model, count in runs],
            "tags": tags,
        })  # fmt: skip
        return
    rows = [(one or NOT_TOLD, model or NOT_TOLD, f"{count:,}") for one, model, count in runs]
    say_table(("VERSION", "MODEL", "DEVICES"), rows)
    if tags:
        typer.echo()
        say_table(("TAG", "DEVICES"), [(name, f"{count:,}") for name, count in tags.items()])


@device.command()
def remove(
    device_id: Annotated[str, typer.Argument(metavar="ID", help="as `sarvis device list` shows it")],
    *,
    wait_s: Annotated[
        float, typer.Option(min=0, max=600, help="how long the device has to confirm its log-out")
    ] = 10.0,
    config: Config = None,
    store_url: StoreUrl = None,
) -> None:
    """Log out the device's user, remove the device's credentials, disconnect it and clear its status."""
    settings = _settings(config, store_url)
    from sarvis import device_changes  # noqa: PLC0415

    device_changes.remove(settings, device_id, wait_s)


def _settings(config: Config, store_url: str | None) -> Settings:
    settings = load(config, store__url=store_url)
    configure_logging(settings.log)
    return settings
