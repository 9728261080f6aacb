"""Clears the retained status of removed devices, in whatever order removal and outage happened."""

import asyncio
from collections.abc import Callable

from bridge.storage.store import Store, StoreError
from contract.clock import Clock
from infra.telemetry import get_logger

LOOK_EVERY_S = 0.25
"""Not more often: however many statuses come, one query asks the ledger about all of them."""

log = get_logger("leftovers")


class Leftovers:
    """Asks the ledger about each device whose status came, and clears the status if the device was removed.

    Only the ledger records removals: the status of such a device may be `online`, if the broker cut it off without
    publishing its last will, or stopped before it could. Nothing else is stored: after a crash, and after each
    connection, the broker sends its retained statuses again.

    Args:
    clear: deletes the retained status of a device; False if no broker is reached.
    """

    def __init__(self, store: Store, clear: Callable[[str], bool], clock: Clock) -> None:
        self._store = store
        self._clear = clear
        self._clock = clock
        self._seen: set[str] = set()
        self._some = asyncio.Event()

    def seen(self, device_id: str) -> None:
        """A status of this device is retained, or may be."""
        self._seen.add(device_id)
        self._some.set()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self._some.wait()
            await self._look()
            await self._clock.sleep(LOOK_EVERY_S)

    async def _look(self) -> None:
        """Asks the ledger each time: a device that was added again keeps its new status."""
        seen, self._seen = self._seen, set()
        self._some.clear()
        try:
            removed = seen & await self._store.removed()
        except StoreError:
            removed, unsent = set(), seen  # the store has logged the reason once
        else:
            unsent = {device_id for device_id in removed if not self._clear(device_id)}
        if cleared := removed - unsent:
            log.info("status_of_removed_devices_cleared", count=len(cleared))
        for device_id in unsent:
            self.seen(device_id)
