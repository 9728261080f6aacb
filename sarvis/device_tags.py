"""Tags of devices, and what `sarvis device list` shows of them."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bridge.storage.opening import ledger
from bridge.storage.reader import Which
from bridge.storage.records import Device
from contract.clock import iso
from contract.errors import SarvisError, SettingsError
from contract.names import check_tag
from infra.settings.bridge import StoreSettings

MOST_TAGS = 32
"""Of one device."""


def checked(tags: Sequence[str], option: str) -> list[str]:
    """Tags in their one form; raises SettingsError that names the option."""
    try:
        return [check_tag(tag) for tag in tags]
    except ValueError as error:
        raise SettingsError(f"{option} {error}") from None


def which(tag: str | None, version: str | None, model: str | None, away_h: float | None) -> Which:
    """The devices that options mean; raises SettingsError. `away_h`: hours since their newest report."""
    before = "" if away_h is None else iso(datetime.now(UTC) - timedelta(hours=away_h))
    return Which("" if tag is None else checked([tag], "--tag")[0], version or "", model or "", before)


def change(
    settings: StoreSettings,
    device_ids: Sequence[str],
    add: Sequence[str],
    remove: Sequence[str],
    *,
    prepared: Path | None = None,
) -> Mapping[str, str]:
    """Give tags to devices and take others away, for all of these or for none; returns the tags of each.

    `prepared`: see `creation.prepared_by`. Raises SarvisError for an unknown device; StartError, StoreError.
    """

    async def run() -> Mapping[str, str]:
        async with ledger(settings, prepared) as store, store.transaction() as transaction:
            known = await transaction.devices(device_ids)
            if strange := [name for name, device in known.items() if device.state == "new"]:
                raise SarvisError(
                    f"there is no device {strange[0]}; nothing was changed, `sarvis device list` shows all"
                )
            changed = [_tagged(device, add, remove) for device in known.values()]
            await transaction.save(changed)
            return {device.device_id: device.tags for device in changed}

    return asyncio.run(run())


def _tagged(device: Device, add: Sequence[str], remove: Sequence[str]) -> Device:
    tags = {*device.tags.split(), *add}.difference(remove)
    if len(tags) > MOST_TAGS:
        raise SarvisError(f"device {device.device_id} would have {len(tags)} tags, and {MOST_TAGS} is the most")
    return replace(device, tags=" ".join(sorted(tags)))
