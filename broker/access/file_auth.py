"""Authorizes clients by the users in a broker's folder, which it reads again when they change."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

from broker.access import acl, users
from broker.server.auth import ClientIdError
from contract import client_ids
from contract.errors import StartError
from infra.places import kept_at_home
from infra.watched_file import WatchedFile

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0


class FileAccess:
    """Admits the users in `users.json`, each to its own topics; a damaged file leaves the last users valid."""

    def __init__(self, folder: Path, prefix: str, *, now: Callable[[], float] = time.monotonic) -> None:
        self._folder = kept_at_home(folder, "broker.dir")
        self._prefix = prefix
        self._users: users.Users = {}
        self._file = WatchedFile(self._folder / users.NAME, read=self._read, now=now, every_s=LOOK_EVERY_S)
        self._file.open()

    async def may_connect(self, client_id: str, username: str | None, password: str | None) -> bool:
        """Whether the password and the client id belong to this user."""
        self._refresh_if_changed()  # checking a file's date costs less than a hash: a new user gets in at once
        return users.verify(self._users, username, password) and _may_use(username, client_id)

    def may_connect_certified(self, client_id: str, username: str) -> bool:
        """Whether the user exists and the client id belongs to it."""
        self._refresh_if_changed()
        return username in self._users and _may_use(username, client_id)

    def credential(self, username: str | None) -> str | None:
        """The stored user, at most a second old; None if there is none."""
        if self._file.is_due():
            self.refresh()
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

    def refresh(self) -> None:
        """Read the users if their file has changed."""
        look = self._file.look()
        if look.is_new:
            log.info("users_read count=%d", len(self._users))
        elif look.problem is not None and not self._file.is_there:
            log.error("users_missing folder=%s; the last known ones stay", self._folder)
        elif look.problem is not None:
            log.error("users_unreadable reason=%r; the last known ones stay", str(look.problem))

    def _refresh_if_changed(self) -> None:
        """At each connection; a damaged file is read once a second at most."""
        if self._file.is_changed() or self._file.is_due():
            self.refresh()

    def _read(self) -> None:
        if not self._file.is_there:
            raise StartError(
                f"there are no users in {self._folder}; write them with sarvis broker config embedded --out FOLDER, "
                "then start with --config FOLDER/sarvis.toml"
            )
        self._users = users.load(self._folder)


def _may_use(username: str | None, client_id: str) -> bool:
    """Raises ClientIdError for a client id that belongs to no client: `sarvis doctor` connects with one."""
    if acl.may_use(username, client_id):
        return True
    if not client_id.startswith(client_ids.PREFIX):
        raise ClientIdError(
            f"user {username!r} may not connect as {client_id!r}, but as {acl.client_id_of(username or '')}"
        )
    return False
