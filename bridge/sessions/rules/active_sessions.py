"""Which user is logged in on which device, as in the ledger; read at every wake. No I/O."""

from collections.abc import Collection, Iterable

from bridge.storage.records import Session


class ActiveSessions:
    """The running sessions by device, and which of them an earlier run had opened."""

    def __init__(self) -> None:
        self._session: dict[str, Session] = {}
        self._from_disk: set[str] = set()

    def __len__(self) -> int:
        return len(self._session)

    def load(self, sessions: Iterable[Session], earlier: Collection[str] | None = None) -> None:
        """Load those of the ledger; `earlier` are those of an earlier run or era, all if None."""
        for session in sessions:
            self._session[session.device_id] = session
            if earlier is None or session.session_id in earlier:
                self._from_disk.add(session.session_id)

    def user_of(self, device_id: str) -> str | None:
        """The user logged in on the device."""
        session = self._session.get(device_id)
        return None if session is None else session.uid

    def from_disk(self, session: Session) -> bool:
        """Whether an earlier run opened it."""
        return session.session_id in self._from_disk

    def opened(self, session: Session) -> None:
        """A session was opened."""
        self._session[session.device_id] = session

    def ended(self, session: Session) -> None:
        """Compare and delete: the end of an old session does not remove a newer one."""
        self._from_disk.discard(session.session_id)
        holder = self._session.get(session.device_id)
        if holder is not None and holder.session_id == session.session_id:
            del self._session[session.device_id]
