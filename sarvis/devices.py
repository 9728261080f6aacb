"""Devices in both places that know them: the bridge's ledger and the broker's users."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from bridge.asking import NoBridgeError, NotFoundError, ask
from bridge.ledger import Desk
from bridge.lines import first
from bridge.rows import Device
from bridge.sql_store import SqlStore
from broker import configure, kit
from broker.folder import BrokerFolder, Reload
from broker.kit import Door
from contract.clock import iso
from contract.errors import SarvisError, StartError
from contract.messages import new_id
from contract.sections.bridge import StoreSettings
from contract.settings import Settings
from sarvis.device_list import Wanted

LOOK_EVERY_S = 0.25
REMOVE = "/api/devices/remove"
AFTERWARDS = "`sarvis device list` tells"

let_in = configure.add_users
tell = configure.tell


@dataclass(frozen=True, slots=True)
class Removed:
    """What became of it.

    Attributes:
        confirmed: no log-out waits for the device's confirmation.
        bridge_runs: a bridge did it; else it was written into the ledger.
        reload: what the running broker was told; None when it was no user of the broker.
    """

    confirmed: bool
    bridge_runs: bool
    reload: Reload | None


def put(settings: StoreSettings, wanted: Sequence[Wanted]) -> list[Device]:
    """Add devices or change what is given, all or none; raises StartError, StoreError."""

    async def run() -> list[Device]:
        store = await SqlStore.open(settings, alone=False)
        try:
            async with store.transaction() as transaction:
                found = [_changed(await transaction.device(one.device_id), one) for one in wanted]
                await transaction.save(found)
                return found
        finally:
            await store.close()

    return asyncio.run(run())


def _changed(known: Device, wanted: Wanted) -> Device:
    known = replace(known, state="added")
    if wanted.uid is not None:
        known = replace(known, claim_uid=wanted.uid or None, assigned_uid=wanted.uid or None)
    if wanted.logout_url is not None:
        known = replace(known, logout_url=wanted.logout_url or None)
    return known


def read(settings: StoreSettings, most: int) -> Sequence[Device]:
    """All devices that were added or seen; raises StartError, StoreError."""

    async def run() -> Sequence[Device]:
        store = await SqlStore.look(settings)
        try:
            return first(await store.devices(most + 1), most, "devices")
        finally:
            await store.close()

    return asyncio.run(run())


def write_kit(folder: Path, door: Door, uid: str | None) -> Path:
    """All that the device needs, in a folder that can be moved; returns its settings. Raises SettingsError."""
    return kit.write_device_kit(folder, door, uid=uid)


def remove(settings: Settings, folder: BrokerFolder, device_id: str, wait_s: float) -> Removed:
    """Log out, then cut off, then clear what is retained; raises SarvisError when nobody knows the device.

    In this order: only a device that is still let in can hear that it is logged out.
    """
    known = device_id in folder.users()
    confirmed: bool | None
    try:
        confirmed = _end_by_bridge(settings, device_id, wait_s)
        runs = True
    except NoBridgeError as error:
        confirmed, runs = asyncio.run(_end_in_ledger(settings.store, device_id, error)), False
    except NotFoundError:
        confirmed, runs = None, True
    if confirmed is None and not known:
        raise SarvisError(f"there is no device {device_id}; `sarvis device list` shows all")
    told = configure.remove_user(folder, device_id)
    if runs and confirmed is not None:
        # Its last will came when the broker cut it off.
        ask(settings, REMOVE, {"device_id": device_id, "give_up": True}, afterwards=AFTERWARDS)
    return Removed(confirmed is not False, runs, told)


def _end_by_bridge(settings: Settings, device_id: str, wait_s: float) -> bool:
    ends = time.monotonic() + wait_s
    while True:
        waiting = ask(settings, REMOVE, {"device_id": device_id}, afterwards=AFTERWARDS).get("waiting")
        if not waiting:
            return True
        if time.monotonic() >= ends:
            return False
        time.sleep(LOOK_EVERY_S)


async def _end_in_ledger(settings: StoreSettings, device_id: str, no_bridge: NoBridgeError) -> bool | None:
    """The same without a bridge; None when the ledger does not know the device."""
    try:
        store = await SqlStore.open(settings)
    except StartError:
        raise no_bridge from None  # one runs, but not where it was looked for
    try:
        async with store.transaction() as transaction:
            device = await transaction.device(device_id)
            if device.state == "new":
                return None
            pending = {row.session_id: row for row in await transaction.pending(device_id)}
            active = await transaction.active(device_id)
            desk = Desk(device, active, pending, {}, iso(datetime.now(UTC)), new_id)
            desk.remove(give_up=True)
            await transaction.save(desk.changes)
            return not pending and active is None
    finally:
        await store.close()
