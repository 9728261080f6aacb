"""The part of the ledger that is kept in memory: read at each wake, changed only after a commit."""

from collections.abc import Collection

from bridge.sessions.rules.active_sessions import ActiveSessions
from bridge.sessions.rules.device_session import UserLiveness
from bridge.sessions.rules.liveness import Liveness
from bridge.sessions.rules.outbox import Outbox
from bridge.sessions.rules.shared_liveness import SharedLiveness, UsersInTurn
from bridge.storage.store import Transaction
from contract.clock import Clock
from infra.settings.bridge import BridgeSettings


class LedgerMemory:
    """Others read it; Sessions alone changes it.

    Attributes:
        shared: the same as liveness, if several bridges share the ledger.
        liveness: which users are alive, and until when.
        active_sessions: which user is logged in on which device.
        outbox: log-outs that no device has confirmed.
    """

    def __init__(self, settings: BridgeSettings, clock: Clock, *, shared: bool = False) -> None:
        self.shared = SharedLiveness(settings, clock) if shared else None
        self.liveness = Liveness(settings, clock) if self.shared is None else self.shared
        self._settings = settings
        self.active_sessions = ActiveSessions()
        self.outbox = Outbox()

    async def users(self, transaction: Transaction, uids: Collection[str]) -> UserLiveness:
        """What rules may ask of these users in this turn; raises StoreError."""
        if self.shared is None:
            return self.liveness
        return UsersInTurn(self._settings, transaction.seconds, await transaction.lifetimes(uids))
