"""Who holds which device, as the ledger on disk says: looked up at every wake. No I/O."""

from collections.abc import Iterable

from bridge.rows import Session


class Holders:
    """The running sessions by device, and which of them an earlier run had opened."""

    def __init__(self) -> None:
        self._session: dict[str, Session] = {}
        self._from_disk: set[str] = set()

    def __len__(self) -> int:
        return len(self._session)

    def load(self, sessions: Iterable[Session]) -> None:
        """Those that an earlier run left."""
        for session in sessions:
            self._session[session.device_id] = session
            self._from_disk.add(session.session_id)

    def user_of(self, device_id: str) -> str | None:
        """Who is logged in on the device."""
        session = self._session.get(device_id)
        return None if session is None else session.uid

    def from_disk(self, session: Session) -> bool:
        """Did an earlier run open it?"""
        return session.session_id in self._from_disk

    def opened(self, session: Session) -> None:
        """It runs."""
        self._session[session.device_id] = session

    def ended(self, session: Session) -> None:
        """Compare and delete: the end of an old session takes nothing from a newer one."""
        self._from_disk.discard(session.session_id)
        holder = self._session.get(session.device_id)
        if holder is not None and holder.session_id == session.session_id:
            del self._session[session.device_id]
