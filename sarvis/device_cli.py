"""`sarvis device`: manages devices in the ledger and at the broker, also while the bridge runs."""

from pathlib import Path
from typing import Annotated

import typer

from bridge.storage.reading import open_reader
from bridge.storage.sqlite.creation import prepared_by
from broker.access import users
from infra.cli_output import AsJson, Config, Most, StoreUrl, first, say_json, say_table
from infra.log import configure_logging
from infra.places import kept_at_home
from infra.redaction import shown_url
from infra.settings.loader import Settings, config_file, load

device = typer.Typer(add_completion=False, no_args_is_help=True, help="Add, list and remove devices.")


@device.callback()
def _device() -> None:
    """Add, list and remove devices."""


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
def list_all(*, config: Config = None, store_url: StoreUrl = None, most: Most = 100, as_json: AsJson = False) -> None:
    """List all devices that were added or seen."""
    settings = _settings(config, store_url)
    with open_reader(settings.store) as ledger:
        found = first(ledger.devices(most + 1), most, "devices")
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
            )
            for one in found
        ]
        say_table(("DEVICE", "STATE", "USER", "TOLD BY", "BROKER KNOWS IT"), rows)
    else:
        typer.echo("no device was added or seen")


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
