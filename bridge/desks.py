"""Lays out a device's rows for the rules."""

from collections.abc import Iterable

from bridge.holders import Holders
from bridge.ledger import Desk
from bridge.people import People
from bridge.store import Transaction
from contract.clock import Clock, iso
from contract.messages import new_id


class Desks:
    """Reads desks.

    Attributes:
        strict: credentials are required, for devices, too.
    """

    def __init__(self, people: People, holders: Holders, clock: Clock, *, strict: bool) -> None:
        self.strict = strict
        self._people = people
        self._holders = holders
        self._clock = clock

    async def read(self, transaction: Transaction, device_id: str, named: Iterable[str] = ()) -> Desk:
        """The device's rows, and the sessions named in its report."""
        active = await transaction.active(device_id)
        return Desk(
            device=await transaction.device(device_id),
            active=active,
            pending={row.session_id: row for row in await transaction.pending(device_id)},
            known=await transaction.sessions(named),
            issued_at=iso(self._clock.utc_now()),
            new_id=new_id,
            now_s=self._people.now(),
            from_disk=active is not None and self._holders.from_disk(active),
            strict=self.strict,
        )
