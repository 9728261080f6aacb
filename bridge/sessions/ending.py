"""Ends all sessions of users: the rows of one transaction, and what follows them."""

from collections.abc import Collection
from dataclasses import dataclass, field

from bridge.sessions.durable_deadlines import DurableDeadlines
from bridge.sessions.effects import Effects
from bridge.sessions.load import DeviceSessionLoader
from bridge.sessions.memory import LedgerMemory
from bridge.sessions.rules.device_session import DeviceSession, without_session
from bridge.storage.records import By, Change, Departed, Unsubscribed, signed
from bridge.storage.store import Transaction
from contract.clock import Clock, iso
from contract.messages import LogoutReason, new_id


@dataclass(frozen=True, slots=True)
class Ended:
    """What a transaction wrote for users who leave."""

    device_sessions: list[DeviceSession] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)


class UserEnder:
    """Writes the end of users in the caller's transaction; when that is committed, call `ended`.

    Args:
        legacy_url: where the log-out of a user without a session is posted to.
    """

    def __init__(
        self,
        memory: LedgerMemory,
        durable_deadlines: DurableDeadlines,
        device_sessions: DeviceSessionLoader,
        effects: Effects,
        clock: Clock,
        legacy_url: str | None,
    ) -> None:
        self._liveness = memory.liveness
        self._durable_deadlines = durable_deadlines
        self._device_sessions = device_sessions
        self._effects = effects
        self._clock = clock
        self._legacy_url = legacy_url

    async def write(self, transaction: Transaction, uids: Collection[str], reason: LogoutReason, by: By) -> Ended:
        """Save the end of their sessions and of their deadlines; raises StoreError."""
        changes: list[Change] = []
        at = iso(self._clock.utc_now())
        active = await transaction.active_of(uids)
        theirs = [session.device_id for mine in active.values() for session in mine]
        device_sessions = list((await self._device_sessions.load_all(transaction, dict.fromkeys(theirs, ()))).values())
        for device_session in device_sessions:
            device_session.end(reason)
        for uid, mine in active.items():
            if not mine:
                changes += without_session(uid, reason, self._legacy_url, at, self._liveness.now(), new_id)
            changes.append(Departed(uid, self._liveness.now(), reason))
            if reason != "heartbeat_timeout":
                changes.append(Unsubscribed(uid))  # silence is normal for a sleeping phone: it stays subscribed
        ended = [change for device_session in device_sessions for change in device_session.changes]
        await transaction.save(signed([*ended, *changes], by))
        return Ended(device_sessions, changes)

    def ended(self, uids: Collection[str], what: Ended, reason: LogoutReason) -> None:
        """It is committed: memory, devices and apps are told."""
        for uid in uids:
            self._liveness.left(uid)
            self._durable_deadlines.left(uid)
        self._effects.committed(what.changes)
        self._effects.decided(what.device_sessions)
        for uid in uids:
            self._effects.logged_out(uid, reason)
