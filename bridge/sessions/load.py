"""Loads a device's rows for the rules."""

from collections.abc import Collection, Mapping

from bridge.sessions.memory import LedgerMemory
from bridge.sessions.rules.device_session import DeviceSession
from bridge.storage.store import Transaction
from contract.clock import Clock, iso
from contract.messages import new_id


class DeviceSessionLoader:
    """Reads device sessions.

    Attributes:
    strict: credentials are required, for devices, too.
    """

    def __init__(self, memory: LedgerMemory, clock: Clock, *, strict: bool) -> None:
        self.strict = strict
        self._memory = memory
        self._clock = clock

    async def load(self, transaction: Transaction, device_id: str) -> DeviceSession:
        """The device's rows."""
        return (await self.load_all(transaction, {device_id: ()}))[device_id]

    async def load_all(
        self, transaction: Transaction, named: Mapping[str, Collection[str]]
    ) -> dict[str, DeviceSession]:
        """The rows of these devices, each with the sessions named in its report; as many statements as for one."""
        if not named:
            return {}
        active = await transaction.active(named)
        devices = await transaction.devices(named)
        pending = await transaction.pending(named)
        known = await transaction.sessions({session_id for ids in named.values() for session_id in ids})
        issued_at, now_s = iso(self._clock.utc_now()), self._memory.liveness.now()
        from_disk = self._memory.active_sessions.from_disk
        return {
            device_id: DeviceSession(
                device=devices[device_id],
                active=(running := active.get(device_id)),
                pending={row.session_id: row for row in pending[device_id]},
                known={session_id: known[session_id] for session_id in ids if session_id in known},
                issued_at=issued_at,
                new_id=new_id,
                now_s=now_s,
                from_disk=running is not None and from_disk(running),
                strict=self.strict,
            )
            for device_id, ids in named.items()
        }
