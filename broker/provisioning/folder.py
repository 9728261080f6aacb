"""A broker's folder: adds and removes users, and has the running broker read them."""

import os
import pwd
import signal
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from broker import files
from broker.access import passwords, users
from broker.access.users import Users
from broker.provisioning import description, mosquitto, nats, relocation, written
from broker.provisioning.description import Description
from broker.provisioning.plan import pid_file
from contract.errors import SettingsError
from infra.places import kept_at_home

Reload = Literal["reloaded", "live", "no_broker", "not_permitted", "not_told", "moved"]
"""How the running broker was informed.

`live`: the embedded one reads the users by itself; `not_told`: one runs, or may run,

whose process cannot be found here: in a container, or on another machine; `moved`: its configuration names another
folder than this.
"""

PROGRAMS = {"mosquitto", "nats-server"}
_USERS_FILES = (mosquitto.PASSWORDS, mosquitto.OPERATORS, mosquitto.ACL, nats.USERS)
ANSWERS_WITHIN_S = 3.0
LISTENS = "0A"
"""The state of a listening socket in /proc/net/tcp."""


class BrokerFolder:
    """Adds and removes users; every change is written for all broker products at once."""

    def __init__(self, folder: Path, prefix: str, *, before: Description | None = None, replace: bool = False) -> None:
        """`before` is the previous description of the files, if it changed; `replace`: also files of other programs."""
        self.folder = kept_at_home(folder, "broker.dir")
        self.prefix = prefix
        self._before = before
        self._replace = replace

    def add(self, username: str) -> str:
        """Add a user with a new password, which is returned and not stored; an older one becomes invalid."""
        return self.add_all([username])[username]

    def add_all(self, usernames: Iterable[str]) -> dict[str, str]:
        """Add users, each with a new password; older ones become invalid."""
        made = {username: passwords.new_password() for username in usernames}
        self.admit(made, {})
        return made

    def admit(self, made: Mapping[str, str], named: Mapping[str, str | None]) -> None:
        """Add users with these passwords, and others with certificates of these names; older passwords become invalid.

        The values of `named` are the alternative names in the certificates, where those differ.
        """
        for username in (*made, *named):
            users.check_username(username)
        with self._edit() as known:
            known.update({username: users.User.with_password(password) for username, password in made.items()})
            known.update({username: users.User(certificate=name) for username, name in named.items()})

    def remove(self, username: str) -> bool:
        """Remove a user; False if it does not exist."""
        with self._edit() as known:
            return known.pop(username, None) is not None

    def users(self) -> list[str]:
        """All user names, sorted."""
        return sorted(users.load(self.folder))

    def certificate_name(self, username: str) -> str | None:
        """The alternative name in a user's certificate, if it differs from the user name."""
        user = users.load(self.folder).get(username)
        return None if user is None else user.certificate

    def verify(self, username: str, password: str) -> bool:
        """Whether this password admits this user."""
        return users.verify(users.load(self.folder), username, password)

    def render(self) -> None:
        """Write the files that the brokers read."""
        with self._edit():
            pass

    def lets_certificate_in(self, username: str) -> bool:
        """Whether a certificate alone admits this user."""
        user = users.load(self.folder).get(username)
        return user is not None and user.pbkdf2 is None

    def refuse_foreign(self) -> None:
        """Raises SettingsError if the folder has users' files of another broker, which may not be replaced."""
        own = any((self.folder / name).exists() for name in (users.NAME, description.NAME, files.LOCK))
        for path in (self.folder / name for name in _USERS_FILES):
            if not self._replace and (path.is_symlink() or (path.exists() and not own)):
                raise SettingsError(
                    f"{path} was not written by sarvis and is not replaced; name another folder, or give "
                    "sarvis broker config --replace, which keeps it under another name"
                )

    def reload(self) -> Reload:
        """Make the running broker of this folder, all nodes of a cluster, reload its users."""
        told = self.describe()
        if told is not None and told.kind == "embedded":
            return "live"
        if relocation.is_elsewhere(self.folder):
            return "moved"  # a broker that was started with it reads the users of that other folder
        if told is None or not told.nodes:
            hosts = () if told is None else told.hosts
            return self._hang_up(None, None if told is None else told.port, hosts)
        found = [self._hang_up(number, port, [host]) for number, (host, port) in enumerate(told.nodes, start=1)]
        # Told means all that run: who is not told keeps a removed user's connection.
        return next(one for one in ("not_permitted", "not_told", "reloaded", "no_broker") if one in found)

    def _hang_up(self, number: int | None, port: int | None, hosts: Sequence[str]) -> Reload:
        """`number`: of a node of a cluster."""
        said = _hang_up(self.folder / pid_file(number), port)
        # A pid file may be from another pid namespace, or of an ended broker: only an answer on its port counts.
        return "not_told" if said == "no_broker" and port is not None and _may_run(hosts, port) else said

    def describe(self) -> Description | None:
        """The description of the broker; None without `sarvis broker config`."""
        return description.load(self.folder)

    def owner(self) -> str | None:
        """The system user who owns the folder and should run its broker."""
        try:
            return pwd.getpwuid(self.folder.stat().st_uid).pw_name
        except (KeyError, FileNotFoundError):
            return None

    @contextmanager
    def _edit(self) -> Iterator[Users]:
        """The users, to change in place; written when the block ends without error, with other writers locked out."""
        told = self.describe()
        if told is not None and told.prefix != self.prefix:
            raise SettingsError(
                f"mqtt.prefix is {self.prefix!r}, but the broker in {self.folder} was configured for {told.prefix!r}; "
                "use the same, or run sarvis broker config again"
            )
        self.refuse_foreign()
        files.make_folder(self.folder)
        with files.locked(self.folder):
            known = users.load(self.folder)
            loaded = dict(known)
            before = _rendered(known, self._before or told, self.prefix)
            yield known
            rendered = _rendered(known, told, self.prefix)
            with files.prepared(lambda: self._write(known, loaded, before, rendered)):
                pass
            self._before = None

    def _write(self, known: Users, loaded: Users, before: Mapping[str, str], rendered: Mapping[str, str]) -> None:
        changed = self._changed_by_hand(before, rendered)
        if known != loaded or not (self.folder / users.NAME).exists():
            users.save(self.folder, known)
        written.set_aside(changed)
        for name, text in rendered.items():
            if not _says(self.folder / name, text):
                files.write(self.folder / name, text)

    def _changed_by_hand(self, before: Mapping[str, str], after: Mapping[str, str]) -> list[Path]:
        """The files whose content is neither the previous nor the next generated one."""
        there = [(self.folder / name, name) for name in after if (self.folder / name).exists()]
        return [
            path
            for path, name in there
            if path.is_symlink() or not (_says(path, after[name]) or _says(path, before.get(name)))
        ]


def _says(path: Path, text: str | None) -> bool:
    """Whether the file has this content."""
    with files.explained(path):
        return text is not None and path.exists() and path.read_bytes() == text.encode()


def _rendered(known: Users, told: Description | None, prefix: str) -> dict[str, str]:
    certified = told is not None and told.client_certificates
    prefix = told.prefix if told is not None else prefix
    texts = {
        mosquitto.PASSWORDS: "" if certified else mosquitto.passwords(known),
        mosquitto.OPERATORS: mosquitto.operators(known),
        mosquitto.ACL: mosquitto.acl(known, prefix),
    }
    # A prefix that only NATS cannot carry is no fault while another broker is used.
    if nats.can_carry(prefix) or (told is not None and told.kind == "nats"):
        texts[nats.USERS] = nats.users(known, prefix, client_certificates=certified)
    return texts


def _hang_up(path: Path, port: int | None) -> Reload:
    """SIGHUP to the process in a pid file, if it is the broker on this port: pid files can be old."""
    try:
        pid = int(path.read_text())
        descriptor = os.pidfd_open(pid)
    except (OSError, ValueError, OverflowError):
        return "no_broker"
    try:
        # The descriptor pins the process: the signal reaches the process that is checked below, or none.
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
    """Whether a process listens on a TCP port; raises PermissionError for a process of another user."""
    sockets = {str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.is_symlink()}
    for table in ("tcp", "tcp6"):
        path = Path(f"/proc/{pid}/net/{table}")
        for line in path.read_text().splitlines()[1:] if path.exists() else []:
            _, local, _, state, *rest = line.split()
            inode = rest[5]
            if state == LISTENS and int(local.rpartition(":")[2], 16) == port and f"socket:[{inode}]" in sockets:
                return True
    return False


def _may_run(hosts: Sequence[str], port: int) -> bool:
    """Whether a broker answers at its clients' address; a name that cannot be resolved counts as no."""
    for host in ("127.0.0.1", *hosts):
        try:
            socket.create_connection((host, port), timeout=ANSWERS_WITHIN_S).close()
        except (ConnectionRefusedError, socket.gaierror):
            continue
        except OSError:
            return True  # a machine that does not answer may have a broker behind a firewall
        return True
    return False
