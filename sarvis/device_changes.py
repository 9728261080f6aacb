"""What `sarvis device add` and `remove` do: to the ledger first, then to the broker's users."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import httpx2
import typer

from bridge.sessions.logout_poster import what_a_node_needs
from bridge.storage.records import Device
from broker import files
from broker.provisioning.folder import BrokerFolder
from broker.provisioning.kit import SETTINGS, BrokerAccess
from broker.provisioning.messages import say_reload
from contract.errors import SettingsError
from contract.messages import LEGACY_DEVICE
from contract.names import check_uid, is_device_id
from infra.handover import printed
from infra.redaction import shown_url
from infra.settings.loader import Settings
from sarvis import device_list, devices
from sarvis.device_list import Wanted

MAX_URL = 2048
MAX_PORT = 65535
MANY = 20
"""From this number of devices on there is a progress bar."""


def add(
    settings: Settings,
    device_id: str | None,
    listed: Path | None,
    uid: str | None,
    logout_url: str | None,
    kit: Path | None,
    *,
    new_secret: bool,
    replace: bool,
    prepared: Path | None,
) -> None:
    """Add the device, or those that a file lists; `prepared` is what `creation.prepared_by` found.

    Raises SettingsError, StartError, StoreError.
    """
    if (device_id is None) == (listed is None):
        raise SettingsError("name one device, or a file of devices with --from FILE")
    if listed is not None and (uid is not None or logout_url is not None):
        raise SettingsError("with --from the file says uid and logout_url, in columns of these names")
    wanted = [Wanted(device_id or "", uid, logout_url)] if listed is None else device_list.read(listed, _check)
    if listed is None:
        _check(wanted[0])
    if kit is not None:
        for one in wanted:
            devices.check_kit(kit if listed is None else kit / one.device_id, one.device_id, replace=replace)
    added = devices.put(settings.store, wanted, prepared=prepared)
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


def remove(settings: Settings, device_id: str, wait_s: float) -> None:
    """Log out, cut off and clear a device; raises SarvisError."""
    _check(Wanted(device_id))
    done = devices.remove(settings, _folder(settings), device_id, wait_s)
    if done.confirmed:
        typer.echo(f"device {device_id}: no user is logged in there now")
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
        devices.let_in(
            folder, told, wanted, new_key=new_secret,
            hand_over=lambda doors: _handed_over(doors, kits, uids, alone=len(added) == 1),
        )  # fmt: skip
    if told.client_certificates and not new_secret and known.intersection(wanted):
        typer.echo("who had a key has it still, and older certificates stay valid; --new-secret makes another key")
    say_reload(
        devices.tell(folder, told, wanted, new_key=new_secret), "it is let in" if len(added) == 1 else "all are let in"
    )


@contextmanager
def _handed_over(
    doors: Mapping[str, BrokerAccess], kits: Mapping[str, Path | None], uids: Mapping[str, str | None], *, alone: bool
) -> Iterator[None]:
    """Kits written, or passwords printed; the block lets them count."""
    written = {name: kit for name in doors if (kit := kits[name]) is not None}
    words = "its password, shown only now: {1}" if alone else "{0},{1}"
    shown = [words.format(name, door.password) for name, door in doors.items() if name not in written and door.password]

    def write() -> None:
        with typer.progressbar(written.items(), label="devices", hidden=len(written) < MANY) as each:
            for name, kit in each:
                devices.write_kit(kit, doors[name], uids[name])

    with printed("\n".join(shown)) if shown else nullcontext(), files.prepared(write):
        yield
    for name, door in doors.items() if alone else ():
        _say_where(door, written.get(name))


def _say_where(door: BrokerAccess, kit: Path | None) -> None:
    if kit is not None:
        typer.echo(f"written to {kit}: copy that folder to the device, and there: sarvis edge --config {SETTINGS}")
    elif door.certificate is not None and door.password is None:
        typer.echo(f"its certificate and key, for mqtt.cert_file and mqtt.key_file: {door.certificate.cert}")
        typer.echo(f"{' ' * 57}{door.certificate.key}")


def _folder(settings: Settings) -> BrokerFolder:
    return BrokerFolder(settings.broker.dir, settings.mqtt.prefix)


def _check(wanted: Wanted) -> None:
    """Raises SettingsError that says what is wrong; an empty uid or URL takes back what was said before."""
    device_id = wanted.device_id
    if not is_device_id(device_id):
        raise SettingsError(f"ID {device_id!r} must be 1 to 64 letters, digits, _ and -")
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
