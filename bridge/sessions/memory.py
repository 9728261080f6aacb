"""The part of the ledger that is kept in memory: read at each wake, changed only after a commit. No I/O."""

from bridge.sessions.rules.active_sessions import ActiveSessions
from bridge.sessions.rules.liveness import Liveness
from bridge.sessions.rules.outbox import Outbox
from contract.clock import Clock
from infra.settings.bridge import BridgeSettings


class LedgerMemory:
    """Others read it; Sessions alone changes it.

    Attributes:
        liveness: which users are alive, and until when.
        active_sessions: which user is logged in on which device.
        outbox: log-outs that no device has confirmed.
    """

    def __init__(self, settings: BridgeSettings, clock: Clock) -> None:
        self.liveness = Liveness(settings, clock)
        self.active_sessions = ActiveSessions()
        self.outbox = Outbox()
