"""`sarvis device`: what an operator says about devices, in the ledger and to the broker, beside a running bridge."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import httpx2
import typer
from pydantic import TypeAdapter, ValidationError

from bridge.lines import AsJson, Config, Most, StoreUrl, say_json, say_table
from bridge.poster import what_a_node_needs
from bridge.rows import Device
from broker import files
from broker.folder import BrokerFolder
from broker.kit import Door
from broker.lines import say_reload
from contract.errors import SettingsError
from contract.messages import LEGACY_DEVICE, DeviceId, check_uid
from contract.redaction import shown_url
from contract.settings import Settings, load
from contract.telemetry import configure_logging
from sarvis import device_list, devices
from sarvis.device_list import Wanted

MAX_URL = 2048
MAX_PORT = 65535
MANY = 20
"""From so many on there is a progress bar."""

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
        str | None, typer.Option(help="log this user in there whenever nobody is and the user connects; '' for nobody")
    ] = None,
    logout_url: Annotated[
        str | None,
        typer.Option(
            help="it speaks only HTTP: log-outs are posted to this address, whose name the device must have in "
            "edge.http_hosts; '' for a device on MQTT again"
        ),
    ] = None,
    kit: Annotated[
        Path | None,
        typer.Option(
            help="write all that `sarvis edge` needs there into this folder, a new secret with it; "
            "with --from into a folder of its own for each device there"
        ),
    ] = None,
    new_secret: Annotated[
        bool,
        typer.Option(
            "--new-secret", help="a new password, or a new key and certificate; what was given out is invalid"
        ),
    ] = False,
    config: Config = None,
    store_url: StoreUrl = None,
) -> None:
    """Add a device, or change one: what is not given stays. Its secret is shown once."""
    settings = _settings(config, store_url)
    if (device_id is None) == (listed is None):
        raise SettingsError("name one device, or a file of devices with --from FILE")
    if listed is not None and (uid is not None or logout_url is not None):
        raise SettingsError("with --from the file says uid and logout_url, in columns of these names")
    wanted = [Wanted(device_id or "", uid, logout_url)] if listed is None else device_list.read(listed, _check)
    if listed is None:
        _check(wanted[0])
    added = devices.put(settings.store, wanted)
    if listed is not None:
        typer.echo(f"{len(added)} devices are in the ledger")
    else:
        told = f"log-outs are posted to {shown_url(added[0].logout_url)}" if added[0].logout_url else "it speaks MQTT"
        whose = f"; it may log in {added[0].assigned_uid} by itself" if added[0].assigned_uid else ""
        typer.echo(f"device {device_id}: {told}{whose}")
        if kit is not None and added[0].logout_url is not None:
            raise SettingsError("--kit is for devices on MQTT; this one is told by HTTP")
        if added[0].logout_url is not None:
            typer.echo(what_a_node_needs(added[0].logout_url))
    kits = {
        one.device_id: None if kit is None else kit if listed is None else kit / one.device_id
        for one in added
        if one.logout_url is None
    }
    _let_in(settings, added, kits, new_secret=new_secret)


@device.command("list")
def list_all(*, config: Config = None, store_url: StoreUrl = None, most: Most = 100, as_json: AsJson = False) -> None:
    """Tell all devices that were added or seen."""
    settings = _settings(config, store_url)
    found = devices.read(settings.store, most)
    users = set(_folder(settings).users())
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
                    "broker_user": one.device_id in users,
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
                "yes" if one.device_id in users else "-",
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
        float, typer.Option(min=0, max=600, help="give the device so long to confirm that it is logged out")
    ] = 10.0,
    config: Config = None,
    store_url: StoreUrl = None,
) -> None:
    """Log out whoever is in there, let the device in no more, disconnect it and clear its status."""
    settings = _settings(config, store_url)
    _check(Wanted(device_id))
    done = devices.remove(settings, _folder(settings), device_id, wait_s)
    if done.confirmed:
        typer.echo(f"device {device_id}: nobody is logged in there any more")
    else:
        typer.echo(
            f"device {device_id}: it did not confirm its log-out within {wait_s:g} s; cut off it is unusable when its "
            f"lease ends ({settings.bridge.heartbeat_timeout_s + settings.bridge.lease_grace_s:g} s at most)"
        )
    if not done.bridge_runs:
        typer.echo("no bridge runs on this ledger: the device's retained status is cleared when one does")
    if done.reload is not None:
        say_reload(done.reload, "it is let in no more")


def _let_in(settings: Settings, added: Sequence[Device], kits: dict[str, Path | None], *, new_secret: bool) -> None:
    """Give those in `kits` a way into the broker; its values are the folders to write."""
    folder = _folder(settings)
    told = folder.describe()
    if told is None:
        if kits and (settings.auth.mode == "required" or any(kits.values())):
            raise SettingsError(
                f"there is no broker configuration in {folder.folder}: run `sarvis broker config`, and name its folder "
                f"in broker.dir"
            )
        return  # an open broker lets in everybody
    known = set(folder.users())
    wanted = [name for name, kit in kits.items() if new_secret or kit is not None or name not in known]
    if kept := len(kits) - len(wanted):
        typer.echo(
            f"{'its secret stays as it is' if kept == len(added) == 1 else f'{kept} secrets stay as they are'}"
            "; --new-secret makes a new one"
        )
    if not wanted:
        return
    uids = {one.device_id: one.assigned_uid for one in added}
    with files.together() if len(wanted) >= MANY else nullcontext():
        doors = devices.let_in(folder, told, wanted, new_key=new_secret)
        with typer.progressbar(doors.items(), label="devices", hidden=len(doors) < MANY) as each:
            for name, door in each:
                _hand_over(name, door, kits[name], uids[name], alone=len(added) == 1)
    if told.client_certificates and not new_secret and known.intersection(wanted):
        typer.echo("who had a key has it still, and older certificates stay valid; --new-secret makes another key")
    say_reload(
        devices.tell(folder, told, wanted, new_key=new_secret), "it is let in" if len(added) == 1 else "all are let in"
    )


def _hand_over(device_id: str, door: Door, kit: Path | None, uid: str | None, *, alone: bool) -> None:
    if kit is not None:
        path = devices.write_kit(kit, door, uid)
        if alone:
            typer.echo(f"written to {kit}: copy that folder to the device, and there: sarvis edge --config {path.name}")
    elif door.certificate is not None:
        if alone:
            typer.echo(f"its certificate and key, for mqtt.cert_file and mqtt.key_file: {door.certificate.cert}")
            typer.echo(f"{' ' * 57}{door.certificate.key}")
    elif alone:
        typer.echo(f"its password, shown only now: {door.password}")
    else:
        typer.echo(f"{device_id},{door.password}")


def _settings(config: Config, store_url: str | None) -> Settings:
    settings = load(config, store__url=store_url)
    configure_logging(settings.log)
    return settings


def _folder(settings: Settings) -> BrokerFolder:
    return BrokerFolder(settings.broker.dir, settings.mqtt.prefix)


def _check(wanted: Wanted) -> None:
    """Raises SettingsError that says what is wrong; an empty uid or URL takes back what was said before."""
    device_id = wanted.device_id
    try:
        TypeAdapter(DeviceId).validate_python(device_id)
    except ValidationError:
        raise SettingsError(f"ID {device_id!r} must be 1 to 64 letters, digits, _ and -") from None
    if device_id == LEGACY_DEVICE:
        raise SettingsError(f"ID {LEGACY_DEVICE} is reserved; its address is the setting legacy.logout_url")
    if wanted.uid:
        try:
            check_uid(wanted.uid)
        except ValueError as error:
            raise SettingsError(f"--uid {error}") from None
    if wanted.logout_url:
        _check_url(wanted.logout_url)


def _check_url(text: str) -> None:
    try:
        url = httpx2.URL(text)
    except (httpx2.InvalidURL, UnicodeError):
        raise SettingsError(
            "--logout-url is no address; write it as http://HOST:PORT/PATH, and in a user name or password "
            "%40 for @, %2F for / and %23 for #"
        ) from None
    port_is_one = url.port is None or 0 < url.port <= MAX_PORT
    clean = text.isprintable() and not any(letter.isspace() for letter in text) and len(text) <= MAX_URL
    if url.scheme not in {"http", "https"} or not url.host or not port_is_one or not clean:
        raise SettingsError("write --logout-url as http://HOST:PORT/PATH or https://HOST/PATH")
