"""Connects a batch of users in one transaction, then updates memory and devices."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from bridge.sessions.durable_deadlines import DurableDeadlines
from bridge.sessions.effects import Effects
from bridge.sessions.ledger import LedgerTurn
from bridge.sessions.load import DeviceSessionLoader
from bridge.sessions.memory import LedgerMemory
from bridge.sessions.rules.device_session import DeviceSession, user_is_back
from bridge.storage.records import Audit, Change, Device, Missed, Session
from bridge.storage.store import Transaction
from contract.clock import Clock, iso


@dataclass(frozen=True, slots=True)
class UserData:
    """What the ledger has of a user who has connected."""

    sessions: list[Session]
    missed: list[Missed]
    """Wakes, oldest first."""
    turn: int = 0
    """The number of the turn in which the user connected; 0 if the ledger is not shared."""


@dataclass(frozen=True, slots=True)
class Connected:
    """The result for connecting users; each is in one of the two."""

    users: Mapping[str, UserData]
    busy: Mapping[str, str]
    """Users for whom nothing was done, by the HTTP device whose post must end first."""


class Connector:
    """Carries out a batch of connections."""

    def __init__(
        self,
        memory: LedgerMemory,
        durable_deadlines: DurableDeadlines,
        device_sessions: DeviceSessionLoader,
        effects: Effects,
        clock: Clock,
    ) -> None:
        self._liveness = memory.liveness
        self._shared = memory.shared is not None
        self._outbox = memory.outbox
        self._durable_deadlines = durable_deadlines
        self._device_sessions = device_sessions
        self._effects = effects
        self._clock = clock

    async def connect(self, turn: LedgerTurn, uids: Sequence[str]) -> Connected:
        """Extend their deadlines, open sessions on HTTP devices that claim them, ask other devices that do.

        Each user at most once. Raises StoreError: then nothing changed for any of them.
        """
        busy = {uid: device_id for uid in uids if (device_id := self._in_the_way(uid)) is not None}
        coming = [uid for uid in uids if uid not in busy]
        if not coming:
            return Connected({}, busy)
        async with turn.transaction() as transaction:
            claimed = await transaction.claimed_by(coming)
            elsewhere = await self._posting_elsewhere(transaction, claimed) if self._shared else set()
            among = {uid: self._busy_among(uid, claimed[uid], elsewhere) for uid in coming}
            busy |= {uid: device_id for uid, device_id in among.items() if device_id is not None}
            coming = [uid for uid in coming if uid not in busy]
            durable_deadlines = self._liveness.needed(coming)
            device_sessions = await self._open_what_is_claimed(transaction, {uid: claimed[uid] for uid in coming})
            superseded = self._superseded(coming, device_sessions)
            news = [*(change for session in device_sessions for change in session.changes), *superseded]
            await transaction.save([*_by_apps(news), *self._durable_deadlines.dated(durable_deadlines)])
            sessions = await transaction.active_of(coming)
            missed = await transaction.missed(coming)
        for promise in durable_deadlines:
            self._liveness.promised(promise)
        self._liveness.touch_all(coming)
        self._effects.committed(superseded)
        self._effects.decided(device_sessions)
        for uid in coming:
            for device in claimed[uid]:
                if device.logout_url is None:
                    self._effects.poke(device.device_id, uid)
        sessions = _with_opened(sessions, device_sessions)
        turn_number = transaction.number
        return Connected({uid: UserData(sessions[uid], missed[uid], turn_number) for uid in coming}, busy)

    def _in_the_way(self, uid: str) -> str | None:
        """The device to which a log-out of this user is being posted: the post must not hit a new session."""
        devices = (row.device_id for row in self._outbox.posted_of(uid))
        return next((device_id for device_id in devices if self._outbox.busy(device_id)), None)

    def _busy_among(self, uid: str, claimed: Iterable[Device], elsewhere: Collection[str]) -> str | None:
        devices = [device.device_id for device in claimed if device.logout_url is not None]
        theirs = [*devices, *(row.device_id for row in self._outbox.posted_of(uid))]
        mine = (device_id for device_id in devices if self._outbox.busy(device_id))
        return next(mine, None) or next((device_id for device_id in theirs if device_id in elsewhere), None)

    async def _posting_elsewhere(self, transaction: Transaction, claimed: Mapping[str, Iterable[Device]]) -> set[str]:
        """The HTTP devices of these users to which another bridge posts; asked only if there are any."""
        opened = {
            device.device_id for devices in claimed.values() for device in devices if device.logout_url is not None
        }
        posted = {row.device_id for uid in claimed for row in self._outbox.posted_of(uid)}
        return await transaction.posting_elsewhere(opened | posted)

    async def _open_what_is_claimed(
        self, transaction: Transaction, claimed: Mapping[str, Iterable[Device]]
    ) -> list[DeviceSession]:
        """An HTTP device never sends hello: the claim that an operator assigned to it is used here."""
        users = {
            device.device_id: uid
            for uid, devices in claimed.items()
            for device in devices
            if device.logout_url is not None
        }
        device_sessions = await self._device_sessions.load_all(transaction, dict.fromkeys(users, ()))
        for device_id, uid in users.items():
            device_sessions[device_id].open(uid, "claim")
        return list(device_sessions.values())

    def _superseded(self, uids: Iterable[str], device_sessions: Iterable[DeviceSession]) -> list[Change]:
        done = {device_session.device.device_id for device_session in device_sessions}
        at = iso(self._clock.utc_now())
        return [change for uid in uids for change in user_is_back(self._outbox.posted_of(uid), done, at)]


def _by_apps(changes: Iterable[Change]) -> list[Change]:
    """Each line names its user's app."""
    return [
        replace(change, actor=f"app:{change.uid}", via="socket") if isinstance(change, Audit) else change
        for change in changes
    ]


def _with_opened(
    sessions: dict[str, list[Session]], device_sessions: Iterable[DeviceSession]
) -> dict[str, list[Session]]:
    """A read may or may not see a session that its own transaction opened."""
    for device_session in device_sessions:
        if device_session.active is not None and device_session.active not in sessions[device_session.active.uid]:
            sessions[device_session.active.uid].append(device_session.active)
    return sessions
