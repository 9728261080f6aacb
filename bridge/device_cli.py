"""`sarvis device`: what an operator says about devices, written beside a running bridge."""

import asyncio
from dataclasses import replace
from typing import Annotated

import httpx2
import typer
from pydantic import TypeAdapter, ValidationError

from bridge.lines import AsJson, Config, Most, StoreUrl, first, say_json, say_table
from bridge.rows import Device
from bridge.sql_store import SqlStore
from contract.errors import SettingsError
from contract.messages import LEGACY_DEVICE, DeviceId, check_uid
from contract.settings import StoreSettings, load
from contract.telemetry import configure_logging

MAX_URL = 2048
MAX_PORT = 65535

device = typer.Typer(add_completion=False, no_args_is_help=True, help="Add and list devices.")


@device.callback()
def _device() -> None:
    """Add and list devices."""


@device.command()
def add(
    device_id: Annotated[str, typer.Argument(metavar="ID", help="letters, digits, _ and -, at most 64")],
    *,
    uid: Annotated[
        str | None, typer.Option(help="log this user in there whenever nobody is and the user connects; '' for nobody")
    ] = None,
    logout_url: Annotated[
        str | None,
        typer.Option(help="it speaks only HTTP: log-outs are posted to this address; '' for a device on MQTT again"),
    ] = None,
    config: Config = None,
    store_url: StoreUrl = None,
) -> None:
    """Add a device, or change one: what is not given stays. A device on MQTT needs not be added."""
    settings = load(config, store__url=store_url)
    configure_logging(settings.log)
    _check(device_id, uid, logout_url)
    added = asyncio.run(_put(settings.store, device_id, uid, logout_url))
    told = f"log-outs are posted to {added.logout_url}" if added.logout_url else "it speaks MQTT"
    whose = f"; it claims {added.claim_uid} from that user's next connection on" if added.claim_uid else ""
    typer.echo(f"device {device_id}: {told}{whose}")


@device.command("list")
def list_all(*, config: Config = None, store_url: StoreUrl = None, most: Most = 100, as_json: AsJson = False) -> None:
    """Tell all devices that were added or seen."""
    settings = load(config, store__url=store_url)
    configure_logging(settings.log)
    devices = asyncio.run(_read(settings.store, most))
    if as_json:
        say_json({
            "devices": [
                {
                    "device_id": one.device_id,
                    "claim_uid": one.claim_uid,
                    "logout_url": one.logout_url,
                    "install_id": one.install_id,
                    "generation": one.generation,
                }
                for one in devices
            ]
        })  # fmt: skip
    elif devices:
        rows = [(one.device_id, one.claim_uid or "-", one.logout_url or "mqtt") for one in devices]
        say_table(("DEVICE", "CLAIMS", "TOLD BY"), rows)
    else:
        typer.echo("no device was added or seen")


def _check(device_id: str, uid: str | None, logout_url: str | None) -> None:
    """Raises SettingsError that says what is wrong; an empty uid or URL takes back what was said before."""
    try:
        TypeAdapter(DeviceId).validate_python(device_id)
    except ValidationError:
        raise SettingsError(f"ID {device_id!r} must be 1 to 64 letters, digits, _ and -") from None
    if device_id == LEGACY_DEVICE:
        raise SettingsError(f"ID {LEGACY_DEVICE} is reserved; its address is the setting legacy.logout_url")
    if uid:
        try:
            check_uid(uid)
        except ValueError as error:
            raise SettingsError(f"--uid {error}") from None
    if logout_url:
        _check_url(logout_url)


def _check_url(text: str) -> None:
    try:
        url = httpx2.URL(text)
    except httpx2.InvalidURL as error:
        raise SettingsError(f"--logout-url is no address: {error}") from None
    port_is_one = url.port is None or 0 < url.port <= MAX_PORT
    clean = text.isprintable() and not any(letter.isspace() for letter in text) and len(text) <= MAX_URL
    if url.scheme not in {"http", "https"} or not url.host or not port_is_one or not clean:
        raise SettingsError("write --logout-url as http://HOST:PORT/PATH or https://HOST/PATH")


async def _put(settings: StoreSettings, device_id: str, uid: str | None, logout_url: str | None) -> Device:
    store = await SqlStore.open(settings, alone=False)
    try:
        async with store.transaction() as transaction:
            known = await transaction.device(device_id)
            if uid is not None:
                known = replace(known, claim_uid=uid or None)
            if logout_url is not None:
                known = replace(known, logout_url=logout_url or None)
            await transaction.save([known])
            return known
    finally:
        await store.close()


async def _read(settings: StoreSettings, most: int) -> list[Device]:
    store = await SqlStore.look(settings)
    try:
        return first(await store.devices(most + 1), most, "devices")
    finally:
        await store.close()
