"""Users connect: one transaction for all of them, then memory and the devices hear of it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bridge.announcer import Announcer
from bridge.desks import Desks
from bridge.ledger import Desk, user_is_back
from bridge.outbox import Outbox
from bridge.people import People
from bridge.promises import Promises
from bridge.rows import Change, Device, Session
from bridge.store import Store, Transaction
from contract.clock import Clock, iso


@dataclass(frozen=True, slots=True)
class Connected:
    """What became of users who connect; each is in one of the two."""

    sessions: Mapping[str, list[Session]]
    """Of those who are connected."""
    busy: Mapping[str, str]
    """For these nothing was done: the HTTP device whose post must end first."""


class Connecting:
    """Carries it out. Whoever calls it is the only one who changes the ledger meanwhile."""

    def __init__(
        self,
        store: Store,
        people: People,
        promises: Promises,
        outbox: Outbox,
        desks: Desks,
        announce: Announcer,
        clock: Clock,
    ) -> None:
        self._store = store
        self._people = people
        self._promises = promises
        self._outbox = outbox
        self._desks = desks
        self._announce = announce
        self._clock = clock

    async def connect(self, uids: Sequence[str]) -> Connected:
        """Extend their deadlines, open what HTTP devices claim, ask other devices that claim them.

        Each user at most once. Raises StoreError: then it is so for none of them.
        """
        busy = {uid: device_id for uid in uids if (device_id := self._in_the_way(uid)) is not None}
        coming = [uid for uid in uids if uid not in busy]
        if not coming:
            return Connected({}, busy)
        desks: list[Desk] = []
        async with self._store.transaction() as transaction:
            claimed = await transaction.claimed_by(coming)
            busy |= {uid: device_id for uid in coming if (device_id := self._busy_among(claimed[uid])) is not None}
            coming = [uid for uid in coming if uid not in busy]
            promises = self._people.needed(coming)
            for uid in coming:
                desks += await self._open_what_is_claimed(transaction, uid, claimed[uid])
            superseded = self._superseded(coming, desks)
            await transaction.save([*self._promises.dated(promises), *superseded])
            sessions = await transaction.active_of(coming)
        for promise in promises:
            self._people.promised(promise)
        self._people.all_heard(coming)
        self._announce.committed(superseded)
        self._announce.decided(desks)
        for uid in coming:
            for device in claimed[uid]:
                if device.logout_url is None:
                    self._announce.poke(device.device_id, uid)
        return Connected(_with_opened(sessions, desks), busy)

    def _in_the_way(self, uid: str) -> str | None:
        """The device to which a log-out of this user is being posted: it must not hit the session that begins."""
        devices = (row.device_id for row in self._outbox.posted_of(uid))
        return next((device_id for device_id in devices if self._outbox.busy(device_id)), None)

    def _busy_among(self, claimed: Iterable[Device]) -> str | None:
        devices = (device.device_id for device in claimed if device.logout_url is not None)
        return next((device_id for device_id in devices if self._outbox.busy(device_id)), None)

    async def _open_what_is_claimed(self, transaction: Transaction, uid: str, claimed: Iterable[Device]) -> list[Desk]:
        """An HTTP device never says hello: the claim an operator gave it is taken up here."""
        desks = []
        for device in claimed:
            if device.logout_url is not None:
                desk = await self._desks.read(transaction, device.device_id)
                desk.open(uid, "claim")
                await transaction.save(desk.changes)
                desks.append(desk)
        return desks

    def _superseded(self, uids: Iterable[str], desks: Iterable[Desk]) -> list[Change]:
        done = {desk.device.device_id for desk in desks}
        at = iso(self._clock.utc_now())
        return [change for uid in uids for change in user_is_back(self._outbox.posted_of(uid), done, at)]


def _with_opened(sessions: Mapping[str, list[Session]], desks: Iterable[Desk]) -> Mapping[str, list[Session]]:
    """A read may or may not have seen what its own transaction opened."""
    for desk in desks:
        if desk.active is not None and desk.active not in sessions[desk.active.uid]:
            sessions[desk.active.uid].append(desk.active)
    return sessions
