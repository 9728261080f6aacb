"""Access by the users in a broker's folder, read again when the file changes."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

from broker import acl, users
from contract.errors import SettingsError, StartError
from contract.places import kept_at_home

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0

Stamp = tuple[int, int, int]


class FileAccess:
    """Lets in whom `users.json` names, each to its own topics; a damaged file leaves things as they were."""

    def __init__(self, folder: Path, prefix: str, *, now: Callable[[], float] = time.monotonic) -> None:
        self._folder = kept_at_home(folder, "broker.dir")
        self._prefix = prefix
        self._now = now
        self._look_at = now() + LOOK_EVERY_S
        self._stamp = self._look()
        if self._stamp is None:
            raise StartError(
                f"there are no users in {self._folder}; write them with sarvis broker config embedded --out FOLDER, "
                "then start with --config FOLDER/sarvis.toml"
            )
        self._users = users.load(self._folder)

    async def may_connect(self, client_id: str, username: str | None, password: str | None) -> bool:
        """Whether the password is this user's, and the client id as well."""
        self._refresh()  # a file's date costs less than a hash: a user added just now gets in
        return users.verify(self._users, username, password) and acl.may_use(username, client_id)

    def may_connect_certified(self, client_id: str, username: str) -> bool:
        """Whether there is such a user, and the client id is its own."""
        self._refresh()
        return username in self._users and acl.may_use(username, client_id)

    def credential(self, username: str | None) -> str | None:
        """The stored user, at most a second old; None when there is none."""
        if self._now() >= self._look_at:
            self._refresh()
        user = self._users.get(username or "")
        return None if user is None else f"{user.pbkdf2} {user.certificate}"

    def may_publish(self, client_id: str, username: str | None, topic: str) -> bool:
        """By the access model, while the user exists."""
        del client_id
        return (username or "") in self._users and acl.may_publish(self._prefix, username, topic)

    def may_subscribe(self, client_id: str, username: str | None, topic_filter: str) -> bool:
        """By the access model, while the user exists."""
        del client_id
        return (username or "") in self._users and acl.may_subscribe(self._prefix, username, topic_filter)

    def _refresh(self) -> None:
        self._look_at = self._now() + LOOK_EVERY_S
        stamp = self._look()
        if stamp != self._stamp:
            self._stamp = stamp
            self._read_again()

    def _read_again(self) -> None:
        if self._stamp is None:
            log.error("users_missing folder=%s; the last known ones stay", self._folder)
            return
        try:
            self._users = users.load(self._folder)
        except SettingsError as error:
            log.error("users_unreadable reason=%r; the last known ones stay", str(error))
        else:
            log.info("users_read count=%d", len(self._users))

    def _look(self) -> Stamp | None:
        try:
            found = (self._folder / users.NAME).stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size
