"""Devices in both places that store them: the bridge's ledger and the broker's users."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from bridge.operator.client import NoBridgeError, NotFoundError, ask
from bridge.operator.person import me
from bridge.sessions.rules.device_session import DeviceSession
from bridge.storage.opening import ledger, open_store
from bridge.storage.records import Audit, Device, signed
from bridge.storage.sqlite import creation
from bridge.storage.sqlite import file as sqlite_file
from bridge.storage.store import LedgerKeptError
from broker.provisioning import configure, kit
from broker.provisioning.folder import BrokerFolder, Reload
from broker.provisioning.kit import BrokerAccess
from contract.clock import iso
from contract.errors import SarvisError, StartError
from contract.messages import new_id
from infra.settings.bridge import StoreSettings
from infra.settings.loader import Settings
from sarvis.device_list import Wanted

LOOK_EVERY_S = 0.25
REMOVE = "/api/devices/remove"
AFTERWARDS = "`sarvis device list` shows it"

let_in = configure.add_users
check_kit = kit.check
tell = configure.tell


@dataclass(frozen=True, slots=True)
class Removed:
    """The result of a removal.

    Attributes:
    confirmed: no log-out waits for the device's confirmation.
    bridge_runs: a bridge did it; otherwise it was written into the ledger.
    reload: how the running broker was informed; None if the device was not a user of the broker.
    """

    confirmed: bool
    bridge_runs: bool
    reload: Reload | None


def put(settings: StoreSettings, wanted: Sequence[Wanted], *, prepared: Path | None = None) -> list[Device]:
    """Add devices or change the given fields, all or none; raises StartError, StoreError.

    `prepared` is the result of `creation.prepared_by`.
    """

    async def run() -> list[Device]:
        async with ledger(settings, prepared) as store, store.transaction() as transaction:
            known = await transaction.devices([one.device_id for one in wanted])
            found = [_changed(known[one.device_id], one) for one in wanted]
            await transaction.save(found)
            return found

    return asyncio.run(run())


def _changed(known: Device, wanted: Wanted) -> Device:
    known = replace(known, state="added")
    if wanted.uid is not None:
        known = replace(known, claim_uid=wanted.uid or None, assigned_uid=wanted.uid or None)
    if wanted.logout_url is not None:
        known = replace(known, logout_url=wanted.logout_url or None)
    return known


def write_kit(folder: Path, door: BrokerAccess, uid: str | None) -> Path:
    """Everything that the device needs, in a folder that can be moved; returns its settings file.

    Raises SettingsError.
    """
    return kit.write_device_kit(folder, door, uid=uid)


def remove(settings: Settings, folder: BrokerFolder, device_id: str, wait_s: float) -> Removed:
    """Log out, then disconnect, then clear the retained status; raises SarvisError for an unknown device.

    In this order: only a device that is still connected can receive its log-out.
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
    if confirmed is None:
        asyncio.run(_note_removed(settings.store, device_id))
    if runs:
        with suppress(NotFoundError):  # only a bridge with another ledger does not have the removal
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
    """The same without a bridge; None if the ledger does not have the device."""
    if settings.is_file:
        if creation.is_prepared(settings.path):
            return None
        if not sqlite_file.check(settings.path):
            raise StartError(f"{no_bridge}; and {sqlite_file.none_there(settings)}")
    try:
        store = await open_store(settings, make=False)
    except LedgerKeptError:
        raise no_bridge from None  # one runs, but not at the configured address
    try:
        async with store.transaction() as transaction:
            device = (await transaction.devices([device_id]))[device_id]
            if device.state == "new":
                return None
            pending = {row.session_id: row for row in (await transaction.pending([device_id]))[device_id]}
            active = (await transaction.active([device_id])).get(device_id)
            desk = DeviceSession(device, active, pending, {}, iso(datetime.now(UTC)), new_id)
            desk.remove(give_up=True)
            await transaction.save(signed(desk.changes, me()))
            return not pending and active is None
    finally:
        await store.close()


async def _note_removed(settings: StoreSettings, device_id: str) -> None:
    """A device that only the broker had may have left a status there: a bridge clears those of removed devices."""
    store = await open_store(settings, alone=False)
    try:
        async with store.transaction() as transaction:
            device = (await transaction.devices([device_id]))[device_id]
            if device.state == "new":
                at = iso(datetime.now(UTC))
                gone = Audit(at, "removed", "", device_id, "", "operator")
                await transaction.save(signed([replace(device, state="removed"), gone], me()))
    finally:
        await store.close()
