"""The folder of a broker: its users, and what each broker product reads about them."""

import os
import pwd
import signal
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from broker import description, files, mosquitto, nats, passwords, users
from broker.description import Description
from broker.plan import PID_FILE
from broker.users import Users
from contract.errors import SettingsError
from contract.places import kept_at_home

Reload = Literal["reloaded", "live", "no_broker", "not_permitted", "not_told"]
"""Was the running broker told; `live`: the embedded one reads the users by itself; `not_told`: one runs, or may run,

whose process cannot be found here: in a container, or on another machine."""

PROGRAMS = {"mosquitto", "nats-server"}
ANSWERS_WITHIN_S = 3.0
LISTENS = "0A"
"""The state of a listening socket in /proc/net/tcp."""


class BrokerFolder:
    """Adds and removes users; every change is written for all broker products at once."""

    def __init__(self, folder: Path, prefix: str) -> None:
        self.folder = kept_at_home(folder, "broker.dir")
        self.prefix = prefix

    def add(self, username: str) -> str:
        """Let a user in with a new password, which is returned and kept nowhere; an older one is invalid."""
        return self.add_all([username])[username]

    def add_all(self, usernames: Iterable[str]) -> dict[str, str]:
        """Let users in, each with a new password; older ones are invalid."""
        made = {username: passwords.new_password() for username in usernames}
        for username in made:
            users.check_username(username)
        with self._edit() as known:
            known.update({username: users.User.with_password(password) for username, password in made.items()})
        return made

    def add_certificate_users(self, named: Mapping[str, str | None]) -> None:
        """Let users in who show certificates with their names; older passwords are invalid.

        The values are the alternative names in the certificates, where those are others.
        """
        for username in named:
            users.check_username(username)
        with self._edit() as known:
            known.update({username: users.User(certificate=name) for username, name in named.items()})

    def remove(self, username: str) -> bool:
        """Let a user in no more; False when there was none."""
        with self._edit() as known:
            return known.pop(username, None) is not None

    def users(self) -> list[str]:
        """All user names, sorted."""
        return sorted(users.load(self.folder))

    def certificate_name(self, username: str) -> str | None:
        """The alternative name in a user's certificate, where that is not its own."""
        user = users.load(self.folder).get(username)
        return None if user is None else user.certificate

    def verify(self, username: str, password: str) -> bool:
        """Whether this password lets this user in."""
        return users.verify(users.load(self.folder), username, password)

    def render(self) -> None:
        """Write anew what the brokers read."""
        with self._edit():
            pass

    def reload(self) -> Reload:
        """Tell the broker that runs on this folder to read its users again."""
        told = self.describe()
        if told is not None and told.kind == "embedded":
            return "live"
        said = _hang_up(self.folder / PID_FILE, told.port if told else None)
        # A pid file may be of another pid namespace, or of a broker that has long ended: what counts is who answers.
        return "not_told" if said == "no_broker" and told is not None and _may_run(told) else said

    def describe(self) -> Description | None:
        """What `sarvis broker config` wrote about the broker; None when it was never run here."""
        return description.load(self.folder)

    def owner(self) -> str | None:
        """The system's user to whom the folder belongs, and as whom its broker should run."""
        try:
            return pwd.getpwuid(self.folder.stat().st_uid).pw_name
        except (KeyError, FileNotFoundError):
            return None

    @contextmanager
    def _edit(self) -> Iterator[Users]:
        """The users to change in place; written when the block ends well, and nobody else writes meanwhile."""
        told = self.describe()
        if told is not None and told.prefix != self.prefix:
            raise SettingsError(
                f"mqtt.prefix is {self.prefix!r}, but the broker in {self.folder} was configured for {told.prefix!r}; "
                "use the same, or run sarvis broker config again"
            )
        files.make_folder(self.folder)
        with files.locked(self.folder):
            known = users.load(self.folder)
            yield known
            rendered = self._rendered(known, told)
            users.save(self.folder, known)
            for name, text in rendered.items():
                files.write(self.folder / name, text)

    def _rendered(self, known: Users, told: Description | None) -> dict[str, str]:
        certified = told is not None and told.client_certificates
        texts = {
            mosquitto.PASSWORDS: "" if certified else mosquitto.passwords(known),
            mosquitto.OPERATORS: mosquitto.operators(known),
            mosquitto.ACL: mosquitto.acl(known, self.prefix),
        }
        # A prefix that only NATS cannot carry is no fault while the broker is another.
        if nats.can_carry(self.prefix) or (told is not None and told.kind == "nats"):
            texts[nats.USERS] = nats.users(known, self.prefix, client_certificates=certified)
        return texts


def _hang_up(pid_file: Path, port: int | None) -> Reload:
    """SIGHUP to the process in a pid file, if it is the broker on this port: an old file must hit nobody else."""
    try:
        pid = int(pid_file.read_text())
        descriptor = os.pidfd_open(pid)
    except (OSError, ValueError, OverflowError):
        return "no_broker"
    try:
        # The descriptor holds the process: what is named below is what gets the signal, or nobody does.
        if Path(f"/proc/{pid}/comm").read_text().strip() not in PROGRAMS:
            return "no_broker"
        if port is not None and not _listens(pid, port):
            return "no_broker"
        signal.pidfd_send_signal(descriptor, signal.SIGHUP)
    except PermissionError:
        return "not_permitted"
    except OSError:
        return "no_broker"
    finally:
        os.close(descriptor)
    return "reloaded"


def _listens(pid: int, port: int) -> bool:
    """Does a process listen on a TCP port? Raises PermissionError for a process of another user."""
    sockets = {str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.is_symlink()}
    for table in ("tcp", "tcp6"):
        path = Path(f"/proc/{pid}/net/{table}")
        for line in path.read_text().splitlines()[1:] if path.exists() else []:
            _, local, _, state, *rest = line.split()
            inode = rest[5]
            if state == LISTENS and int(local.rpartition(":")[2], 16) == port and f"socket:[{inode}]" in sockets:
                return True
    return False


def _may_run(told: Description) -> bool:
    """Does a broker answer where clients look for it? A name that nobody can resolve is no answer."""
    for host in ("127.0.0.1", *told.hosts):
        try:
            socket.create_connection((host, told.port), timeout=ANSWERS_WITHIN_S).close()
        except (ConnectionRefusedError, socket.gaierror):
            continue
        except OSError:
            return True  # a machine that says nothing may have a broker behind a firewall
        return True
    return False
